"""Batteries: the machine's own, one with a fixed charge, and how failing readings are replaced.

``device.energy.field_batteries`` reads other sources such as programs, files and plug-ins;
``simulated_battery`` is a model with a capacity and a charger.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device.energy.charge import Charge
from device.energy.clock import Clock, boot_s
from shared.errors import UsageError

READ_EVERY_S = 5.0  # the charge changes slowly, and reading it takes longer than a sample
SUPPLIES = Path("/sys/class/power_supply")
UNREADABLE = (OSError, ValueError, TypeError, AttributeError, RuntimeError)
_log = logging.getLogger(__name__)


class ReadBattery:
    """A battery whose charge ``read`` returns; it is called at most every ``READ_EVERY_S`` seconds.

    If ``read`` returns None there is no battery: the machine counts as full and plugged in, which
    is logged once if a battery is ``needed``. If ``read`` raises, the last known charge stays
    valid; if there is none, the battery counts as half full and not plugged in, so that policies
    are careful. This is logged once too.
    """

    def __init__(
        self, read: Callable[[], Charge | None], clock: Clock = boot_s, needed: bool = False
    ) -> None:
        self._ask = read
        self._clock = clock
        self._needed = needed
        self._read_s = -math.inf
        self._last = Charge(0.5, plugged=False)
        self._said = False

    def charge(self) -> Charge:
        """Return the present state."""
        now_s = self._clock()
        if not 0 <= now_s - self._read_s < READ_EVERY_S:
            self._read_s = now_s
            self._last = self._read()
        return self._last

    def _read(self) -> Charge:
        try:
            found = self._ask()
        except UNREADABLE as error:
            self._say(f"the battery cannot be read ({error}); going on with {self._last.level:.0%}")
            return self._last
        if found is None:
            if self._needed:
                self._say(
                    "this machine has no battery that the system knows; counting as full and "
                    "plugged in (--battery-command and --battery-file read others)"
                )
            return Charge(1.0, plugged=True)
        return found

    def _say(self, text: str) -> None:
        if not self._said:
            _log.warning("%s", text)
            self._said = True


class SystemBattery(ReadBattery):
    """The machine's own battery, as the system lists it."""

    def __init__(self, clock: Clock = boot_s, needed: bool = False) -> None:
        super().__init__(read_system, clock, needed)


def read_system() -> Charge | None:
    """The charge that the operating system reports; None if it knows no battery."""
    if SUPPLIES.is_dir():
        from device.energy.supplies import read_supplies

        return read_supplies(SUPPLIES)
    import psutil  # here, since it costs 50 ms that a device without auto need not pay

    sensors = psutil.sensors_battery()
    if sensors is None:
        return None
    level = sensors.percent / 100
    if not math.isfinite(level):
        raise ValueError(f"charge {level}")
    return Charge(min(max(level, 0.0), 1.0), bool(sensors.power_plugged))


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
