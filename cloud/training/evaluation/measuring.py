"""Measure a bundle on labelled pictures: accuracy at all pairs of levels, details of one pair.

For every device level it also measures the payload and the exit head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud.training.split.evaluate import cloud_logits, device_features
from cloud.training.split.exit_calibration import answered_by_exit, probabilities
from shared.model.bundle import Bundle
from shared.model.exits import Logits, read_calibration
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec

BINS = 15  # bins of confidence, of equal width
CODED = 500  # pictures over which the mean size of coded payloads is measured

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence is in one bin: number, mean confidence, share of right ones."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Row:
    """The results of one device level; the exit head is used at the bundle's threshold.

    device_macs         multiply-accumulates of the device half for one picture
    raw_bytes           size of a payload before coding
    coded_bytes         mean size of a coded payload
    cloud               accuracy of the cloud at full width
    exit_threshold      None, as all fields below, without a calibrated exit head
    stay                share of the pictures that the exit head answers
    stay_accuracy       accuracy on these pictures
    combined            accuracy if the cloud answers all other pictures
    """

    fraction: float
    device_macs: int
    raw_bytes: int
    coded_bytes: float
    cloud: float
    exit_threshold: float | None = None
    stay: float | None = None
    stay_accuracy: float | None = None
    combined: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """The results of a bundle on ``images`` pictures; accuracies are shares of right answers.

    grid           accuracy at [device level][cloud level]
    rows           results of each device level

    The other fields describe the pair of ``level`` and ``cloud_level``:

    confusion      number of pictures of a class (row) that were classified as a class (column)
    bins           answers by confidence
    mistakes       indices of wrongly classified pictures, those with the highest confidence first
    wrong_answers  the answers to these
    confidences    the confidences of these answers
    """

    images: int
    grid: Floats
    level: int
    cloud_level: int
    confusion: Indices
    bins: tuple[Bin, ...]
    mistakes: Indices
    wrong_answers: Indices
    confidences: Floats
    rows: tuple[Row, ...]

    @property
    def accuracy(self) -> float:
        """Accuracy at the pair of ``level`` and ``cloud_level``."""
        return float(np.trace(self.confusion) / self.images)

    @property
    def recall(self) -> Floats:
        """Share of each class's pictures that are classified as this class; NaN without
        pictures.
        """
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def precision(self) -> Floats:
        """Share of the answers naming each class that are right; NaN without such answers."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance of confidence from accuracy, weighted by bins.

        Source: Guo et al., "On Calibration of Modern Neural Networks" (arXiv 1706.04599).
        """
        distances = [one.count * abs(one.confidence - one.accuracy) for one in self.bins]
        return sum(distances) / self.images


def evaluate(
    bundle: Bundle,
    images: Images,
    labels: Indices,
    level: int,
    cloud_level: int,
    on_level: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> Evaluation:
    """Measure ``bundle`` on images (N, H, W, C) and labels (N,), N > 0.

    ``level`` and ``cloud_level`` are indices of the pair to describe in detail. ``on_level``
    receives (device levels done, all device levels).
    """
    device, cloud, codec = DeviceHalf(bundle), CloudHalf(bundle), FeatureCodec(bundle)
    architecture = bundle.architecture
    top = len(architecture.cloud_levels) - 1
    count = len(architecture.device_levels)
    grid = np.zeros((count, top + 1))
    rows, close = [], np.zeros((0, 0), np.float32)
    for at in range(count):
        features = device_features(device, images, at)
        right = np.zeros(len(images), np.bool_)
        for c in range(top + 1):
            logits = cloud_logits(cloud, features, at, c)
            right = logits.argmax(axis=1) == labels
            grid[at, c] = right.mean()
            if (at, c) == (level, cloud_level):
                close = logits
        exits = device.exit_logits(features, at) if architecture.exit_head else None
        rows.append(_row(bundle, codec, at, features, right, exits, labels))
        on_level(at + 1, count)
    return _detailed(close, labels, grid, level, cloud_level, tuple(rows))


def _row(
    bundle: Bundle,
    codec: FeatureCodec,
    level: int,
    features: Images,
    cloud_right: npt.NDArray[np.bool_],
    exits: Logits | None,
    labels: Indices,
) -> Row:
    architecture = bundle.architecture
    coded = [len(codec.encode(one[None], level).payload) for one in features[:CODED]]
    row = Row(
        fraction=architecture.device_levels[level],
        device_macs=architecture.device_macs(level),
        raw_bytes=architecture.sent_shape(level).packed_bytes,
        coded_bytes=float(np.mean(coded)),
        cloud=float(cloud_right.mean()),
    )
    calibration = read_calibration(bundle)
    if exits is None or calibration is None:
        return row
    threshold = calibration.threshold[level]
    stays = answered_by_exit(exits, threshold, calibration.temperature[level])
    right = exits.argmax(axis=1) == labels
    return Row(
        **{
            **vars(row),
            "exit_threshold": threshold,
            "stay": float(stays.mean()),
            "stay_accuracy": float(right[stays].mean()) if stays.any() else None,
            "combined": float(np.where(stays, right, cloud_right).mean()),
        }
    )


def _detailed(
    logits: npt.NDArray[np.float32],
    labels: Indices,
    grid: Floats,
    level: int,
    cloud_level: int,
    rows: tuple[Row, ...],
) -> Evaluation:
    classes = logits.shape[1]
    answers = logits.argmax(axis=1)
    confidences = probabilities(logits, 1.0).max(axis=1)
    confusion = np.bincount(labels * classes + answers, minlength=classes**2)
    wrong = np.flatnonzero(answers != labels)
    wrong = wrong[np.argsort(-confidences[wrong], kind="stable")]
    return Evaluation(
        images=len(labels),
        grid=grid,
        level=level,
        cloud_level=cloud_level,
        confusion=confusion.reshape(classes, classes),
        bins=_bins(confidences, answers == labels),
        mistakes=wrong,
        wrong_answers=answers[wrong],
        confidences=confidences[wrong],
        rows=rows,
    )


def _bins(confidences: Floats, right: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    places = np.minimum((confidences * BINS).astype(int), BINS - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        found.append(
            Bin(int(inside.sum()), float(confidences[inside].mean()), float(right[inside].mean()))
        )
    return tuple(found)


def _ratio(part: Indices, whole: Indices) -> Floats:
    with np.errstate(invalid="ignore"):
        result: Floats = part / np.where(whole, whole, np.nan)
    return result
