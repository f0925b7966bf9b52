"""The exit head's answer to a sample, and the decision whether it is sure enough to stay.

The decision is one of integers, so that Python, compiled kernels and C decide alike: logits are
whole numbers in ``1 / 2**FRACTION_BITS``, a margin is the best logit less the next best, and a
sample stays if its margin reaches the integer threshold of its level. People and bundles write that
threshold as a confidence: ``margin_threshold`` is the one place that turns it into a margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError, UsageError
from shared.model.bundle import Bundle

METADATA_KEY = "exit"  # in a bundle's ``extra``
NEVER = 2.0  # an exit threshold that no confidence reaches
ALWAYS = 0.0  # one that every confidence reaches
FRACTION_BITS = 20  # of integer logits and margins
ONE: int = 2**FRACTION_BITS  # a logit of 1
NEVER_MARGIN = 2**63 - 1  # a threshold that no margin reaches
ONLY_CLASS_MARGIN = 2**62  # of a network that has one class
# All other labels count as so many of the next best. With 2 the shipped bundles keep about what
# they kept by a softmax over all labels, by which their thresholds were chosen (1.2 to 1.5 would
# match it for MNIST, 1.8 to 2.3 for CIFAR-10), and their promises hold.
RIVALS = 2
_SURE = math.nextafter(1.0, 0.0)  # no answer is certain

Logits = npt.NDArray[np.int64]  # (N, classes), in 1 / ONE


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
    """Temperature, default threshold and measured curve, one of each for every device level.

    The curve is that of the validation split, since plans are made with it; in older bundles that
    of the test set.
    """

    temperature: tuple[float, ...]
    threshold: tuple[float, ...]
    curve: tuple[tuple[ExitPoint, ...], ...]

    @property
    def margins(self) -> tuple[int, ...]:
        """The default thresholds as margins."""
        return tuple(map(margin_threshold, self.threshold, self.temperature))


@dataclass(frozen=True)
class LocalAnswer:
    """The exit head's answer to one sample.

    margin           its logit less the next best one's, in ``1 / ONE``: what decides
    exit_confidence  the same as a probability, see ``margin_threshold``
    probabilities    softmax over all labels, to be shown; ``confidence`` is that of ``label``
    """

    label: int
    margin: int
    exit_confidence: float
    probabilities: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """Probability of the label among all."""
        return self.probabilities[self.label]


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
        for points in value.get("validation_curve", value["curve"])
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


@lru_cache(maxsize=1024)
def margin_threshold(confidence: float, temperature: float) -> int:
    """The least margin that has ``confidence`` at ``temperature``: the threshold of the decision.

    The confidence of a margin m is ``1 / (1 + RIVALS * exp(-m / (ONE * temperature)))``. One of 1/3
    or less is reached by every sample, one of 1 or more by none.
    """
    if confidence >= 1:
        return NEVER_MARGIN
    if confidence * (1 + RIVALS) <= 1:
        return 0
    odds = math.log(RIVALS * confidence) - math.log1p(-confidence)
    return max(math.ceil(ONE * temperature * odds), 0)


def exit_tables(bundle: Bundle) -> tuple[Logits, Logits]:
    """Scale and bias (levels, classes): an integer logit is ``sum * scale + bias``.

    Raises ``BundleError`` for numbers that do not fit 32 bits.
    """
    tensors = bundle.stage("exit", "exit")
    tables = [np.rint(table.astype(np.float64) * ONE) for table in (tensors.scale, tensors.bias)]
    most = np.iinfo(np.int32).max
    if any(np.abs(table).max(initial=0) > most for table in tables):
        raise BundleError(
            f"bundle {bundle.metadata.name}: scale and bias of its exit head must be below "
            f"{most // ONE + 1}"
        )
    scale, bias = (table.astype(np.int64) for table in tables)
    return scale, bias


def margins(logits: Logits) -> npt.NDArray[np.int64]:
    """The best logit of each sample less its next best: (N, classes) -> (N,)."""
    if logits.shape[1] == 1:
        return np.full(len(logits), ONLY_CLASS_MARGIN)
    ordered = np.partition(logits, -2, axis=1)
    best, next_best = ordered[:, -1], ordered[:, -2]
    found: npt.NDArray[np.int64] = best - next_best
    return found


def local_answer(logits: Sequence[int], temperature: float = 1.0) -> LocalAnswer:
    """The answer of integer ``logits``, its probabilities softened by ``temperature``.

    Plain Python: for ten numbers it takes half the time of arrays.
    """
    *_, next_best, best = (min(logits) - ONLY_CLASS_MARGIN, *sorted(logits))
    unit = ONE * temperature
    weights = [math.exp((logit - best) / unit) for logit in logits]
    total = math.fsum(weights)
    return LocalAnswer(
        label=logits.index(best),
        margin=best - next_best,
        exit_confidence=min(1 / (1 + RIVALS * math.exp((next_best - best) / unit)), _SURE),
        probabilities=tuple(weight / total for weight in weights),
    )
