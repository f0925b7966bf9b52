"""The exit head's answer to a sample, and the decision whether the sample stays on the device.

The decision uses integers, so that Python, compiled kernels and C decide equally. Logits are
integers in units of ``1 / 2**FRACTION_BITS``. The margin is the best logit minus the second best. A
sample stays if its margin reaches the integer threshold of its level. Users and bundles give the
threshold as a confidence, which only ``margin_threshold`` converts to a margin.
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

METADATA_KEY = "exit"  # key in a bundle's ``extra``
NEVER = 2.0  # an exit threshold that no confidence reaches
ALWAYS = 0.0  # an exit threshold that every confidence reaches
FRACTION_BITS = 20  # binary places of integer logits and margins
ONE: int = 2**FRACTION_BITS  # a logit of 1
NEVER_MARGIN = 2**63 - 1  # a threshold that no margin reaches
ONLY_CLASS_MARGIN = 2**62  # the margin if there is only one class
# In the confidence, all other labels count as this many of the second best. The shipped bundles'
# thresholds were chosen by a softmax over all labels. With 2 they keep about the same samples (1.2
# to 1.5 would match the softmax for MNIST, 1.8 to 2.3 for CIFAR-10), and their promises hold.
RIVALS = 2
_SURE = math.nextafter(1.0, 0.0)  # no answer is certain

Logits = npt.NDArray[np.int64]  # (N, classes), in units of 1 / ONE


@dataclass(frozen=True)
class ExitPoint:
    """The measured results of the exit head at one threshold.

    rate      share of the samples that the exit head answers
    accuracy  accuracy on these samples
    combined  accuracy on all samples if the cloud, at full width, answers the others
    """

    threshold: float
    rate: float
    accuracy: float
    combined: float


@dataclass(frozen=True)
class ExitCalibration:
    """Temperature, default threshold and measured curve for every device level.

    The curve is used for plans, so it is measured on the validation split; in older bundles on the
    test set.
    """

    temperature: tuple[float, ...]
    threshold: tuple[float, ...]
    curve: tuple[tuple[ExitPoint, ...], ...]

    @property
    def margins(self) -> tuple[int, ...]:
        """The default thresholds, converted to margins."""
        return tuple(map(margin_threshold, self.threshold, self.temperature))


@dataclass(frozen=True)
class LocalAnswer:
    """The exit head's answer to one sample.

    margin           best logit minus second best, in units of ``1 / ONE``; decides about staying
    exit_confidence  the margin as a probability, see ``margin_threshold``
    probabilities    softmax over all labels, for display
    """

    label: int
    margin: int
    exit_confidence: float
    probabilities: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """The softmax probability of ``label``."""
        return self.probabilities[self.label]


def read_calibration(bundle: Bundle) -> ExitCalibration | None:
    """Read the calibration in ``bundle``; None without exit head or calibration.

    Raises ``BundleError`` if it is invalid.
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
    """Return ``value`` if it is from 0 to 1; else raise ``UsageError`` that names ``flag``."""
    if not 0 <= value <= 1:
        raise UsageError(f"{flag}: {value:g} is not allowed; give 0 to 1")
    return value


@lru_cache(maxsize=1024)
def margin_threshold(confidence: float, temperature: float) -> int:
    """Return the least margin with at least ``confidence`` at ``temperature``.

    The confidence of a margin m is ``1 / (1 + RIVALS * exp(-m / (ONE * temperature)))``. Every
    sample reaches a confidence of 1/3 or less, and none reaches 1 or more.
    """
    if confidence >= 1:
        return NEVER_MARGIN
    if confidence * (1 + RIVALS) <= 1:
        return 0
    odds = math.log(RIVALS * confidence) - math.log1p(-confidence)
    return max(math.ceil(ONE * temperature * odds), 0)


def exit_tables(bundle: Bundle) -> tuple[Logits, Logits]:
    """Return scale and bias (levels, classes), with integer logit = ``sum * scale + bias``.

    Raises ``BundleError`` for numbers that do not fit into 32 bits.
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
    """Return each sample's best logit minus its second best: (N, classes) -> (N,)."""
    if logits.shape[1] == 1:
        return np.full(len(logits), ONLY_CLASS_MARGIN)
    ordered = np.partition(logits, -2, axis=1)
    best, next_best = ordered[:, -1], ordered[:, -2]
    found: npt.NDArray[np.int64] = best - next_best
    return found


def local_answer(logits: Sequence[int], temperature: float = 1.0) -> LocalAnswer:
    """Return the answer for integer ``logits`` of one sample, with softmax at ``temperature``.

    In plain Python, which for ten numbers takes half the time of arrays.
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
