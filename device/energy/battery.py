"""Batteries: the machine's own, and one whose charge is fixed.

``device.energy.simulated_battery`` has the third kind, a model with a capacity and a charger.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Protocol

from device.energy.clock import Clock, boot_s
from shared.errors import UsageError

READ_EVERY_S = 5.0  # the charge moves slowly, and asking the system takes longer than a sample
_log = logging.getLogger(__name__)


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
    """The machine's own battery, read at most every ``READ_EVERY_S`` seconds.

    A machine without a battery counts as full and plugged in. A battery that cannot be read keeps
    its last known charge, or counts as half full and not plugged in if there is none, so that a
    policy is careful; this is logged once.
    """

    def __init__(self, clock: Clock = boot_s) -> None:
        self._clock = clock
        self._read_s = -math.inf
        self._last = Charge(0.5, plugged=False)
        self._said = False

    def charge(self) -> Charge:
        """The state that the operating system reports."""
        now_s = self._clock()
        if not 0 <= now_s - self._read_s < READ_EVERY_S:
            self._read_s = now_s
            self._last = self._read()
        return self._last

    def _read(self) -> Charge:
        import psutil  # here, since it costs 50 ms that a device without auto need not pay

        try:
            sensors = psutil.sensors_battery()
            if sensors is None:
                return Charge(1.0, plugged=True)
            level = sensors.percent / 100
            if not math.isfinite(level):
                raise ValueError(f"charge {level}")
            return Charge(min(max(level, 0.0), 1.0), bool(sensors.power_plugged))
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            if not self._said:
                _log.warning(
                    "the battery cannot be read (%s); going on with %d%%",
                    error,
                    round(100 * self._last.level),
                )
                self._said = True
            return self._last


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
