"""Accuracy of an incomplete network over fractions, and batch-norm statistics measured anew."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from shared.networks.incomplete import IncompleteNetwork

IMAGES_AT_A_TIME = 100  # more no longer fit the cache: VGG-16 takes a fifth longer with 500
CALIBRATION_BATCH = 256


@torch.no_grad()
def accuracy(
    network: IncompleteNetwork, images: Tensor, labels: Tensor, fraction: float = 1.0
) -> float:
    """Share of right answers at ``fraction``, in float32: images (N, C, H, W) uint8."""
    network.eval()
    right = 0
    for start in range(0, len(images), IMAGES_AT_A_TIME):
        batch = slice(start, start + IMAGES_AT_A_TIME)
        x = images[batch].float().to(memory_format=torch.channels_last)
        right += int((network(x, fraction).argmax(1) == labels[batch]).sum())
    return right / len(images)


@torch.no_grad()
def calibrate(network: IncompleteNetwork, images: Tensor, fraction: float) -> None:
    """Measure the statistics of the level that serves ``fraction``, with dropout off.

    They become the mean over batches of ``images`` (N, C, H, W) uint8.
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


def recalibrated_accuracy(
    network: IncompleteNetwork,
    calibration: Tensor,
    images: Tensor,
    labels: Tensor,
    fractions: Sequence[float],
) -> list[float]:
    """``accuracy`` at every fraction with statistics measured for it; ``network`` is kept."""
    measured = copy.deepcopy(network)
    shares = []
    for fraction in fractions:
        calibrate(measured, calibration, fraction)
        shares.append(accuracy(measured, images, labels, fraction))
    return shares
