"""Where the charge of the battery comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import psutil

from shared.errors import UsageError


@dataclass(frozen=True)
class Charge:
    """State of a battery: ``level`` from 0 (empty) to 1 (full), and whether it is being charged."""

    level: float
    plugged: bool


class Battery(Protocol):
    """Something with a charge."""

    def charge(self) -> Charge:
        """The state now."""


class SystemBattery:
    """The machine's own battery; a machine without one counts as full and plugged in."""

    def charge(self) -> Charge:
        """The state that the operating system reports."""
        sensors = psutil.sensors_battery()
        if sensors is None:
            return Charge(1.0, plugged=True)
        return Charge(min(max(sensors.percent / 100, 0.0), 1.0), bool(sensors.power_plugged))


@dataclass(frozen=True)
class FixedBattery:
    """A battery that stays at ``percent``: for trying a policy out."""

    percent: float

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise UsageError(f"--battery: {self.percent:g} is not allowed; give 0 to 100 percent")

    def charge(self) -> Charge:
        """The fixed state."""
        return Charge(self.percent / 100, plugged=False)
