"""Calibrate the exit head: temperature, default threshold, and the measured curve.

Pure functions over arrays; ``cloud.training.split.export`` calls ``calibrate`` with outputs of the
packed runtime. Temperature scaling is described by Guo et al., "On Calibration of Modern Neural
Networks" (2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.training.intervals import wilson
from shared.model.exits import ONE, RIVALS, Logits, margin_threshold, margins

CloudLogits = npt.NDArray[np.float32]  # (N, classes)
Labels = npt.NDArray[np.int64]  # (N,)

# Confidences at which the curve is measured; at 0 all samples stay.
THRESHOLDS = (
    0.0,
    0.5,
    0.6,
    0.7,
    0.8,
    0.85,
    0.9,
    0.925,
    0.95,
    0.97,
    0.98,
    0.99,
    0.995,
    0.998,
    0.999,
)
FEWEST = 50  # samples that must stay at a threshold, so that it is not chosen by chance
TEMPERATURES = np.geomspace(0.05, 50.0, 400)


@dataclass(frozen=True)
class LevelLogits:
    """Logits (N, classes) at one device level, with the labels (N,).

    held_exit, held_cloud, held_labels  exit head, and cloud at full width, on the validation split
    test_exit, test_cloud, test_labels  the same on the test set

    Logits of the exit head are integers in units of 1 / ONE.
    """

    held_exit: Logits
    held_cloud: CloudLogits
    held_labels: Labels
    test_exit: Logits
    test_cloud: CloudLogits
    test_labels: Labels


def calibrate(levels: Sequence[LevelLogits]) -> dict[str, list[Any]]:
    """Return the bundle's ``extra["exit"]``: lists with an entry for every device level.

    temperature, threshold  chosen on the validation split
    promise                 accuracy that ``threshold`` guarantees, see ``promise``
    validation_curve        the curve on the validation split, for plans; see ``curve``
    curve                   the curve on the test set
    """
    names = ("temperature", "threshold", "promise", "validation_curve", "curve")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for level in levels:
        temperature = round(best_temperature(level.held_exit, level.held_labels), 4)
        confidences = confidence(level.held_exit, temperature)
        right = level.held_exit.argmax(axis=1) == level.held_labels
        cloud_right = level.held_cloud.argmax(axis=1) == level.held_labels
        threshold = rounded_up(harmless_threshold(confidences, right, cloud_right))
        found["temperature"].append(temperature)
        found["threshold"].append(threshold)
        found["promise"].append(promise(confidences, right, threshold, len(levels)))
        found["validation_curve"].append(
            curve(level.held_exit, level.held_cloud, level.held_labels, temperature)
        )
        found["curve"].append(
            curve(level.test_exit, level.test_cloud, level.test_labels, temperature)
        )
    return found


def probabilities(
    logits: npt.NDArray[np.floating[Any]], temperature: float
) -> npt.NDArray[np.float64]:
    """Return softmax(logits / temperature) over the last axis, in the same shape."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return result


def confidence(logits: Logits, temperature: float) -> npt.NDArray[np.float64]:
    """Return the confidence to which ``margin_threshold`` applies: (N, classes) -> (N,)."""
    unit = ONE * temperature
    confidences: npt.NDArray[np.float64] = 1 / (1 + RIVALS * np.exp(-margins(logits) / unit))
    return confidences


def answered_by_exit(logits: Logits, threshold: float, temperature: float) -> npt.NDArray[np.bool_]:
    """Return which samples the exit head answers, as devices decide: (N, classes) -> (N,)."""
    return margins(logits) >= margin_threshold(threshold, temperature)


def negative_log_likelihood(logits: Logits, labels: Labels, temperature: float) -> float:
    """Return the mean of -log p(label) over logits (N, classes) and labels (N,)."""
    chosen = probabilities(logits / ONE, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def best_temperature(logits: Logits, labels: Labels) -> float:
    """Return the temperature with the least negative log likelihood, which has one minimum."""
    losses = [negative_log_likelihood(logits, labels, float(t)) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def harmless_threshold(
    confidences: npt.NDArray[np.float64],
    right: npt.NDArray[np.bool_],
    cloud_right: npt.NDArray[np.bool_],
) -> float:
    """Return the lowest threshold at which the exit head is as accurate as the cloud.

    Compared over the samples that stay at the threshold; all arrays are (N,). Returns 1.0, at which
    practically nothing stays, if no threshold with at least ``FEWEST`` samples fulfils this.
    """
    order = np.argsort(-confidences, kind="stable")
    lead = np.cumsum(right[order].astype(np.int64) - cloud_right[order])
    harmless = np.flatnonzero(lead >= 0)
    harmless = harmless[harmless >= FEWEST - 1]
    return float(confidences[order[harmless[-1]]]) if harmless.size else 1.0


def rounded_up(threshold: float) -> float:
    """Round up to 6 digits, so that no additional sample stays."""
    return math.ceil(threshold * 1e6) / 1e6


def promise(
    confidences: npt.NDArray[np.float64],
    right: npt.NDArray[np.bool_],
    threshold: float,
    promises: int = 1,
) -> float:
    """Return a lower bound of the accuracy on the samples at or above ``threshold``.

    It is the lower end of their Wilson interval, such that all ``promises`` of a bundle hold
    together with 95% (Bonferroni); 0 without such samples.
    """
    stays = confidences >= threshold
    if not stays.any():
        return 0.0
    z = NormalDist().inv_cdf(1 - 0.05 / 2 / promises)
    low, _ = wilson(float(right[stays].mean()), int(stays.sum()), z)
    return math.floor(low * 1e5) / 1e5


def curve(
    exit_logits: Logits, cloud_logits: CloudLogits, labels: Labels, temperature: float
) -> list[list[float]]:
    """Return a row for each of ``THRESHOLDS``.

    A row is [threshold, share that stays, accuracy on these, accuracy with the cloud for the rest].
    """
    exit_right = exit_logits.argmax(axis=1) == labels
    cloud_right = cloud_logits.argmax(axis=1) == labels
    points = []
    for threshold in THRESHOLDS:
        stays = answered_by_exit(exit_logits, threshold, temperature)
        rate = float(stays.mean())
        accuracy = float(exit_right[stays].mean()) if stays.any() else 1.0
        combined = float(np.where(stays, exit_right, cloud_right).mean())
        points.append([threshold, round(rate, 5), round(accuracy, 5), round(combined, 5)])
    return points
