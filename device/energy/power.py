"""The power supply of an agent: the machine's own battery, or a simulated one."""

from __future__ import annotations

from typing import Protocol

from device.energy.battery import SystemBattery
from device.energy.charge import Battery, Charge
from device.energy.simulated_battery import SimulatedBattery


class Power(Battery, Protocol):
    """A battery that an agent discharges."""

    def draw(self, energy_j: float, seconds: float) -> None:
        """Discharge by ``energy_j`` joules that were used within the last ``seconds``."""

    def set_level(self, level: float) -> bool:
        """Set the charge, 0 to 1; returns False if it cannot be set."""


class MachinePower:
    """The battery of this machine. It measures its own discharge, so nothing is subtracted."""

    def __init__(self, battery: Battery | None = None) -> None:
        self._battery = SystemBattery() if battery is None else battery

    def charge(self) -> Charge:
        """Return the state that the system reports."""
        return self._battery.charge()

    def draw(self, energy_j: float, seconds: float) -> None:
        """Do nothing: the battery discharges as the machine works."""

    def set_level(self, level: float) -> bool:  # noqa: ARG002 - no level can be set
        """Return False: the charge of a real battery cannot be set."""
        return False


class SimulatedPower:
    """A simulated battery, discharged by the energy model of the agent."""

    def __init__(self, battery: SimulatedBattery) -> None:
        self._battery = battery

    def charge(self) -> Charge:
        """Return the present state."""
        return self._battery.charge()

    def draw(self, energy_j: float, seconds: float) -> None:
        """Subtract the energy, then advance the battery's clock."""
        self._battery.spend(energy_j)
        self._battery.advance(seconds)

    def set_level(self, level: float) -> bool:
        """Set the charge, 0 to 1, for the battery events of scenarios; returns True."""
        old = self._battery
        self._battery = SimulatedBattery(old.cell, old.schedule, level)
        self._battery.now_s = old.now_s
        return True
