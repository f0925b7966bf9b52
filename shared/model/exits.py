"""The exit head's answer to a sample, its confidence, and the thresholds it is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.errors import BundleError, UsageError
from shared.model.bundle import Bundle

METADATA_KEY = "exit"  # in a bundle's ``extra``
NEVER = 2.0  # an exit threshold that no confidence reaches
ALWAYS = 0.0  # one that every confidence reaches


@dataclass(frozen=True)
class ExitPoint:
    """The exit head at one threshold, measured.

    rate      share of the samples that it answers
    accuracy  share of right answers among those
    combined  share of right answers when the cloud, at full width, answers the others
    """

    threshold: float
    rate: float
    accuracy: float
    combined: float


@dataclass(frozen=True)
class ExitCalibration:
    """Temperature, default threshold and measured curve, one of each for every device level."""

    temperature: tuple[float, ...]
    threshold: tuple[float, ...]
    curve: tuple[tuple[ExitPoint, ...], ...]


@dataclass(frozen=True)
class LocalAnswer:
    """The exit head's answer to one sample."""

    label: int
    confidence: float
    probabilities: tuple[float, ...]


def read_calibration(bundle: Bundle) -> ExitCalibration | None:
    """The calibration in ``bundle``; None without an exit head or without one measured.

    Raises ``BundleError`` if there is one that cannot be used.
    """
    if not bundle.architecture.exit_head or METADATA_KEY not in bundle.metadata.extra:
        return None
    levels = len(bundle.architecture.device_levels)
    try:
        return _parse(bundle.metadata.extra[METADATA_KEY], levels)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(
            f"bundle {bundle.metadata.name}: its exit calibration cannot be read ({error!r})"
        ) from None


def _parse(value: Mapping[str, Any], levels: int) -> ExitCalibration:
    temperature = tuple(float(number) for number in value["temperature"])
    threshold = tuple(float(number) for number in value["threshold"])
    curve = tuple(
        tuple(ExitPoint(*(float(number) for number in point)) for point in points)
        for points in value["curve"]
    )
    if not len(temperature) == len(threshold) == len(curve) == levels:
        raise ValueError(f"{levels} levels are needed")
    if not all(math.isfinite(t) and t > 0 for t in temperature):
        raise ValueError(f"temperature {temperature}")
    numbers = [*threshold, *(n for points in curve for p in points for n in vars(p).values())]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("not a finite number")
    return ExitCalibration(temperature, threshold, curve)


def check_threshold(value: float, flag: str = "--exit-threshold") -> float:
    """Return ``value`` if it is a confidence from 0 to 1, else raise ``UsageError``."""
    if not 0 <= value <= 1:
        raise UsageError(f"{flag}: {value:g} is not allowed; give 0 to 1")
    return value


def local_answer(logits: Sequence[float], temperature: float = 1.0) -> LocalAnswer:
    """Softmax of ``logits / temperature``: the best class and its probability.

    Plain Python: for ten numbers it takes half the time of arrays.
    """
    best = max(logits)
    weights = [math.exp((logit - best) / temperature) for logit in logits]
    total = math.fsum(weights)
    probabilities = tuple(weight / total for weight in weights)
    label = logits.index(best)
    return LocalAnswer(label, probabilities[label], probabilities)
