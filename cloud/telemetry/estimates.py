"""Estimates with confidence intervals: shares of samples, and drift of devices. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cloud.telemetry.sums import Sums

Z95 = 1.959963984540054  # quantile of the normal distribution for a two-sided 95 % interval
FEWEST_DEVICES = 8  # fewer are too few to estimate a variance


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval does not contain 0."""
        return self.low > 0 or self.high < 0


def share(part: int, whole: int) -> Estimate | None:
    """Return ``part`` / ``whole`` with the Wilson score interval; None without samples."""
    if not whole:
        return None
    value, z2 = part / whole, Z95**2
    middle = (value + z2 / (2 * whole)) / (1 + z2 / whole)
    half = Z95 / (1 + z2 / whole) * math.sqrt(value * (1 - value) / whole + z2 / (4 * whole**2))
    return Estimate(value, max(middle - half, 0.0), min(middle + half, 1.0))


def exit_accuracy(sums: Sums) -> Estimate | None:
    """Return the share of the exit head's audited answers that equal the cloud's.

    It estimates the accuracy of local answers, assuming that the cloud is right. None without
    audits.
    """
    return share(sums.agreed, sums.audited)


def drift(pairs: Iterable[tuple[Sums, Sums]]) -> Estimate | None:
    """Return the mean change of the exit head's confidence over devices.

    ``pairs`` holds the sums (before, now) of each device. Each device is compared with itself, so
    that differences between devices do not count as drift. None with fewer than ``FEWEST_DEVICES``
    devices that have both sums.
    """
    changes = [
        now.exit_confidence - before.exit_confidence
        for before, now in pairs
        if now.exit_confidence is not None and before.exit_confidence is not None
    ]
    count = len(changes)
    if count < FEWEST_DEVICES:
        return None
    mean = math.fsum(changes) / count
    spread = math.fsum((one - mean) ** 2 for one in changes) / (count - 1)
    half = Z95 * math.sqrt(spread / count)
    return Estimate(mean, mean - half, mean + half)
