"""Charging schedules of simulated batteries: none, mains, solar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from shared.errors import UsageError

DAY_S = 86_400.0
HOUR_S = 3_600.0


class Schedule(Protocol):
    """A charging schedule: the offered power as a function of time."""

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Return the joules offered between two times, in seconds since midnight of the
        first day.
        """

    def plugged(self, now_s: float) -> bool:
        """Return whether power is offered at ``now_s``."""


@dataclass(frozen=True)
class NoRecharge:
    """A battery that is never charged."""

    def energy_j(self, start_s: float, end_s: float) -> float:  # noqa: ARG002 - never any
        """Return 0."""
        return 0.0

    def plugged(self, now_s: float) -> bool:  # noqa: ARG002 - never
        """Return False."""
        return False


@dataclass(frozen=True)
class Mains:
    """``power_w`` from ``start_hour`` for ``hours`` of every day."""

    power_w: float
    start_hour: float = 22.0
    hours: float = 8.0

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Return the power times the plugged-in time."""
        on_s = self.start_hour * HOUR_S
        length_s = self.hours * HOUR_S
        total_s = 0.0
        # A charging period that began the day before may continue.
        day = math.floor(start_s / DAY_S) - 1
        while day * DAY_S + on_s < end_s:
            first = max(day * DAY_S + on_s, start_s)
            last = min(day * DAY_S + on_s + length_s, end_s)
            total_s += max(last - first, 0.0)
            day += 1
        return self.power_w * total_s

    def plugged(self, now_s: float) -> bool:
        """Return whether the device is plugged in."""
        return (now_s / HOUR_S - self.start_hour) % 24 < self.hours


@dataclass(frozen=True)
class Solar:
    """A solar panel whose power is a half sine of ``peak_w`` from 06:00 to 18:00, times ``clouds``.

    ``clouds`` holds one factor from 0 to 1 for each day and repeats after the last.
    """

    peak_w: float
    clouds: tuple[float, ...] = (1.0,)

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Return the integral of the half sine, day by day."""
        total_j = 0.0
        day = math.floor(start_s / DAY_S)
        while day * DAY_S < end_s:
            first = min(max((start_s - day * DAY_S) / HOUR_S - 6, 0.0), 12.0)
            last = min(max((end_s - day * DAY_S) / HOUR_S - 6, 0.0), 12.0)
            # Integral of sin(pi h / 12) over the hours h.
            arc_hours = 12 / math.pi * (math.cos(math.pi * first / 12) - _cos12(last))
            total_j += self.peak_w * HOUR_S * arc_hours * self.clouds[day % len(self.clouds)]
            day += 1
        return total_j

    def plugged(self, now_s: float) -> bool:
        """Return whether the sun is up."""
        return 6 < now_s / HOUR_S % 24 < 18


def _cos12(hours: float) -> float:
    return math.cos(math.pi * hours / 12)


def parse_recharge(text: str, flag: str = "--recharge") -> Schedule:
    """Parse ``none``, ``solar:PEAK_MW`` or ``mains:POWER_MW[@START_HOUR+HOURS]``;
    ``UsageError``.
    """
    kind, _, rest = text.partition(":")
    try:
        if kind == "none" and not rest:
            return NoRecharge()
        if kind == "solar":
            return Solar(_positive(rest) / 1000)
        if kind == "mains":
            power, _, window = rest.partition("@")
            if not window:
                return Mains(_positive(power) / 1000)
            start, _, hours = window.partition("+")
            return Mains(_positive(power) / 1000, float(start) % 24, min(_positive(hours), 24.0))
    except ValueError:
        pass
    raise UsageError(
        f"{flag}: {text!r} is not allowed; give none, solar:MILLIWATT_PEAK or "
        "mains:MILLIWATT@START_HOUR+HOURS"
    )


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)
    return value
