"""A model of a battery: capacity, charge curve, self-discharge and charger. It reads no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from device.energy.charge import Charge
from device.energy.recharge import DAY_S, NoRecharge, Schedule
from shared.errors import UsageError

MONTH_S = 30 * DAY_S
TAPER_FROM = 0.8  # charge at which lithium chargers change to constant voltage, about
TRICKLE = 0.05  # share of the offered power that a nearly full cell still accepts
LONGEST_STEP_S = 3600.0


@dataclass(frozen=True)
class Cell:
    """Constants of a battery cell.

    capacity_j              energy when full
    self_discharge_a_month  share of the charge lost in 30 days without load; 2-3% is usual for
                            lithium ion at 20 C (Battery University BU-802b)
    charge_efficiency       share of the offered energy that is stored
    """

    capacity_j: float
    self_discharge_a_month: float = 0.03
    charge_efficiency: float = 0.9

    def __post_init__(self) -> None:
        if not (math.isfinite(self.capacity_j) and self.capacity_j > 0):
            raise UsageError(f"capacity: {self.capacity_j:g} J is not allowed; give more than 0")


class SimulatedBattery:
    """The charge of ``cell`` over time: ``spend`` discharges it, ``advance`` lets time pass.

    Time starts at midnight of the first day and only moves by ``advance``. Below 80% the cell
    accepts all of the offered power, above that less and less (constant current, then constant
    voltage).
    """

    def __init__(self, cell: Cell, schedule: Schedule | None = None, level: float = 1.0) -> None:
        if not 0 <= level <= 1:
            raise UsageError(f"level: {level:g} is not allowed; give 0 to 1")
        self.cell = cell
        self.schedule: Schedule = NoRecharge() if schedule is None else schedule
        self.now_s = 0.0
        self._stored_j = level * cell.capacity_j

    @property
    def stored_j(self) -> float:
        """Stored energy in joules."""
        return self._stored_j

    @property
    def empty(self) -> bool:
        """Whether no energy is left."""
        return self._stored_j <= 0

    def charge(self) -> Charge:
        """Return the present state, for policies."""
        return Charge(self._stored_j / self.cell.capacity_j, self.schedule.plugged(self.now_s))

    def spend(self, energy_j: float) -> float:
        """Discharge by ``energy_j``, or all that is left; returns the share of it that was
        supplied.
        """
        if not energy_j >= 0:
            raise ValueError(f"energy_j: {energy_j} is not allowed; give 0 or more")
        taken = min(energy_j, self._stored_j)
        self._stored_j -= taken
        return taken / energy_j if energy_j else 1.0

    def advance(self, seconds: float) -> None:
        """Advance the time, with self-discharge and charging; negative ``seconds`` count as 0."""
        left_s = max(seconds, 0.0)
        while left_s > 0:
            step_s = min(left_s, LONGEST_STEP_S)
            keep = (1 - self.cell.self_discharge_a_month) ** (step_s / MONTH_S)
            offered_j = self.schedule.energy_j(self.now_s, self.now_s + step_s)
            self._stored_j *= keep
            level = self._stored_j / self.cell.capacity_j
            stored_j = offered_j * self.cell.charge_efficiency * accepted(level)
            self._stored_j = min(self._stored_j + stored_j, self.cell.capacity_j)
            self.now_s += step_s
            left_s -= step_s

    def forecast(self, horizon_s: float, steps: int = 28) -> tuple[tuple[float, float], ...]:
        """Return pairs (seconds ahead, joules that charging will have stored), ``steps``
        of them.
        """
        points = []
        for index in range(1, steps + 1):
            ahead_s = horizon_s * index / steps
            offered_j = self.schedule.energy_j(self.now_s, self.now_s + ahead_s)
            points.append((ahead_s, offered_j * self.cell.charge_efficiency))
        return tuple(points)


def accepted(level: float) -> float:
    """Return the share, 1 to ``TRICKLE``, of the offered power that a cell accepts at ``level``."""
    if level <= TAPER_FROM:
        return 1.0
    return max(1 - (level - TAPER_FROM) / (1 - TAPER_FROM), TRICKLE)
