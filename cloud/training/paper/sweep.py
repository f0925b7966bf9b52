"""Accuracy of an incomplete network over fractions, under each kind of batch-norm statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from shared.errors import UsageError
from shared.networks.incomplete import IncompleteNetwork

IMAGES_AT_A_TIME = 100  # more exceed the CPU's cache: VGG-16 takes a fifth longer with 500
CUDA_IMAGES_AT_A_TIME = 2000
CALIBRATION_BATCH = 256
DROPOUT_SEED = 7  # for evaluations with dropout


class Statistics(Enum):
    """The statistics that batch norm uses in a test."""

    RUNNING = "running"  # collected during training
    BATCH = "batch"  # of the test batch, so answers depend on the other images in it (transductive)
    RECALIBRATED = "recalibrated"  # measured for the fraction on training images


@dataclass(frozen=True)
class Evaluation:
    """How a network is tested: the statistics, and whether dropout stays active."""

    statistics: Statistics
    dropout: bool = False

    @property
    def name(self) -> str:
        """The key in results: the statistics, with "+dropout" if dropout stays active."""
        return f"{self.statistics.value}{'+dropout' if self.dropout else ''}"


PAPER_PROTOCOL = Evaluation(Statistics.BATCH, dropout=True)  # as the paper's research code tests


@dataclass(frozen=True)
class HeldOut:
    """Test and calibration images, on the network's device.

    ``images`` (N, C, H, W) uint8 and ``labels`` (N,) are the test set, in order. The calibration
    images are uint8 too. ``batch`` is the size of test batches for batch statistics.
    """

    images: Tensor
    labels: Tensor
    calibration: Tensor
    batch: int


@torch.no_grad()
def sweep(
    network: IncompleteNetwork,
    data: HeldOut,
    fractions: Sequence[float],
    evaluation: Evaluation,
    *,
    calibrated: bool = False,
) -> list[float]:
    """Return the accuracy at every fraction; the statistics of ``network`` are left unchanged.

    ``calibrated``: the network has statistics for every fraction and needs no recalibration.
    """
    network.eval()
    recalibrate = evaluation.statistics is Statistics.RECALIBRATED and not calibrated
    measured = copy.deepcopy(network) if recalibrate else network
    shares = []
    for fraction in fractions:
        if recalibrate:
            calibrate(measured, data.calibration, fraction)
        with _test_mode(measured, evaluation):
            size = data.batch if evaluation.statistics is Statistics.BATCH else None
            shares.append(accuracy(measured, data.images, data.labels, fraction, size))
    return shares


@torch.no_grad()
def accuracy(
    network: IncompleteNetwork,
    images: Tensor,
    labels: Tensor,
    fraction: float = 1.0,
    batch: int | None = None,
) -> float:
    """Return the accuracy at ``fraction``, in float32, on images (N, C, H, W) uint8, labels (N,).

    ``batch`` is the number of images in a pass, by default one that runs fast. A single image that
    is left over joins the pass before it, since one image has no variance.
    """
    size = batch or (CUDA_IMAGES_AT_A_TIME if images.is_cuda else IMAGES_AT_A_TIME)
    right = torch.zeros((), dtype=torch.int64, device=images.device)
    if batch and len(images) < 2:
        raise UsageError("--statistics: batch needs at least two test images")
    starts = list(range(0, len(images), size))
    if len(starts) > 1 and len(images) - starts[-1] == 1:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(images)], strict=True):
        x = images[start:stop].float().to(memory_format=torch.channels_last)
        right += (network(x, fraction).argmax(1) == labels[start:stop]).sum()
    return int(right) / len(images)


@torch.no_grad()
def calibrate(network: IncompleteNetwork, images: Tensor, fraction: float) -> None:
    """Measure the statistics of the level that serves ``fraction``, with dropout off.

    They are set to the mean over batches of ``images`` (N, C, H, W) uint8.
    """
    network.eval()
    norms = network.norms()
    for norm in norms:
        norm.reset()
        norm.calibrating = True
    try:
        for start in range(0, len(images), CALIBRATION_BATCH):
            x = images[start : start + CALIBRATION_BATCH].float()
            network(x.to(memory_format=torch.channels_last), fraction)
    finally:
        for norm in norms:
            norm.calibrating = False


@contextmanager
def _test_mode(network: IncompleteNetwork, evaluation: Evaluation) -> Iterator[None]:
    """Switch batch statistics and dropout on while the block runs, as ``evaluation`` says."""
    norms = network.norms() if evaluation.statistics is Statistics.BATCH else []
    dropouts = dropouts_of(network) if evaluation.dropout else []
    for norm in norms:
        norm.by_batch = True
    for layer in dropouts:
        layer.train()
    if dropouts:
        torch.manual_seed(DROPOUT_SEED)
    try:
        yield
    finally:
        for norm in norms:
            norm.by_batch = False
        for layer in dropouts:
            layer.eval()


def dropouts_of(network: nn.Module) -> list[nn.Dropout]:
    """Return the dropout layers with a probability above 0."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Dropout) and layer.p > 0]
