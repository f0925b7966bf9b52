"""Calibration of the exit head: temperature, default threshold, and the measured curve.

Pure functions over arrays; ``cloud.training.split.export`` calls ``calibrate`` with what the packed
runtime gives. Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks" (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]  # (N, classes)
Labels = npt.NDArray[np.int64]  # (N,)

# Confidences at which the curve is measured; 1.01 would be "never", 0 is "always".
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
TARGET_ACCURACY = 0.998  # of the samples that stay on the device; training images flatter it
TEMPERATURES = np.geomspace(0.05, 50.0, 400)


@dataclass(frozen=True)
class LevelLogits:
    """What one device level gives for images with known labels.

    held_exit, held_labels  exit head on held-out training images
    test_exit, test_cloud, test_labels  exit head, and cloud at full width, on the test set
    """

    held_exit: Logits
    held_labels: Labels
    test_exit: Logits
    test_cloud: Logits
    test_labels: Labels


def calibrate(
    levels: Sequence[LevelLogits], target: float = TARGET_ACCURACY
) -> dict[str, list[Any]]:
    """The value of ``extra["exit"]``: temperature, threshold and curve for every device level."""
    temperatures, thresholds, curves = [], [], []
    for level in levels:
        temperature = best_temperature(level.held_exit, level.held_labels)
        held = confidence(level.held_exit, temperature)
        right = level.held_exit.argmax(axis=1) == level.held_labels
        temperatures.append(round(temperature, 4))
        thresholds.append(round(threshold_for(held, right, target), 4))
        curves.append(curve(level.test_exit, level.test_cloud, level.test_labels, temperature))
    return {"temperature": temperatures, "threshold": thresholds, "curve": curves}


def probabilities(logits: Logits, temperature: float) -> npt.NDArray[np.float64]:
    """softmax(logits / temperature) over the last axis, same shape."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return result


def confidence(logits: Logits, temperature: float) -> npt.NDArray[np.float64]:
    """Probability of the most probable class: (N, classes) -> (N,)."""
    best: npt.NDArray[np.float64] = probabilities(logits, temperature).max(axis=1)
    return best


def negative_log_likelihood(logits: Logits, labels: Labels, temperature: float) -> float:
    """Mean of -log p(label)."""
    chosen = probabilities(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def best_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature of least negative log likelihood (it has a single minimum)."""
    losses = [negative_log_likelihood(logits, labels, float(t)) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def threshold_for(
    confidences: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], target: float
) -> float:
    """The lowest threshold above which the share of ``right`` is at least ``target``.

    1.0 if no threshold reaches it: then practically nothing stays on the device.
    """
    order = np.argsort(-confidences, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share >= target)
    # A lucky run of the first few samples is no evidence: ask for 50.
    good = good[good >= min(49, len(order) - 1)]
    return float(confidences[order[good[-1]]]) if good.size else 1.0


def curve(
    exit_logits: Logits, cloud_logits: Logits, labels: Labels, temperature: float
) -> list[list[float]]:
    """[threshold, rate, accuracy of those, accuracy with the cloud] at each of ``THRESHOLDS``."""
    sure = confidence(exit_logits, temperature)
    exit_right = exit_logits.argmax(axis=1) == labels
    cloud_right = cloud_logits.argmax(axis=1) == labels
    points = []
    for threshold in THRESHOLDS:
        stays = sure >= threshold
        rate = float(stays.mean())
        accuracy = float(exit_right[stays].mean()) if stays.any() else 1.0
        combined = float(np.where(stays, exit_right, cloud_right).mean())
        points.append([threshold, round(rate, 5), round(accuracy, 5), round(combined, 5)])
    return points
