"""Computes how many days a battery lasts with two looks, and with the best single look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cloud.training.data.datasets import Dataset
from device.energy.recharge import DAY_S
from device.energy.simulated_battery import Cell, SimulatedBattery
from device.policy.operating_points import (
    Conditions,
    OperatingPoint,
    level_tables,
    one_look_plans,
    operating_point,
    with_payloads,
)
from device.policy.simple import Decision, Look, Situation
from device.simulate.results import LevelResults, measure, totals
from device.simulate.simulation import MeasuredDevice, Outcome, Workload, simulate
from shared.energy.hardware import find_hardware
from shared.energy.model import EnergyModel
from shared.model.bundle import Bundle
from shared.model.looks import LookPlan, read_plans

RATE_PER_S = 1.0
LONGEST_DAYS = 3650.0
STEP_S = 6 * 3600.0


@dataclass(frozen=True)
class Fixed:
    """A policy that always chooses the same looks."""

    looks: tuple[Look, ...]

    def decide(self, _: Situation) -> Decision:
        """Choose the looks."""
        return Decision(self.looks)


def days(bundle: Bundle, test: Dataset, allowed: float, hardware: str) -> dict[str, Any]:
    """Return the days at one sample a second, and their ratio.

    The plan of two looks is the one of the bundle's table that lasts longest among those that lose
    at most ``allowed`` points on the validation split. The single look is the best on the test
    images, among all levels and exit thresholds with at least the same accuracy there.
    """
    results = measure(bundle, test.images, test.labels)
    tables = with_payloads(
        level_tables(bundle),
        [float(level.payload_bytes.mean()) for level in results],
        [level.batched_bytes for level in results],
    )
    model = EnergyModel(find_hardware(hardware))
    device = MeasuredDevice(tables, results, model)

    def point(one: LookPlan) -> OperatingPoint:
        return operating_point(one, tables, 0.0, model, Conditions(RATE_PER_S))

    full, *plans = read_plans(bundle)
    equal = [one for one in plans if one.accuracy >= full.accuracy - allowed / 100]
    two = min((point(one) for one in equal), key=lambda option: option.energy_j)
    least = _accuracy(results, two.looks)
    singles = [point(one) for one in one_look_plans(tables)]
    single = min(
        (option for option in singles if _accuracy(results, option.looks) >= least),
        key=lambda option: option.energy_j,
    )
    looked, alone = (_play(device, option.looks) for option in (two, single))
    return {
        "days": looked.life_days,
        "accuracy": looked.accuracy,
        "energy_mj": looked.energy_mj,
        "plan": [two.fraction, two.then, two.exit_threshold],
        "single_days": alone.life_days,
        "single_accuracy": alone.accuracy,
        "single_energy_mj": alone.energy_mj,
        "single": [single.fraction, single.exit_threshold],
        "ratio": looked.life_days / alone.life_days,
    }


def _accuracy(results: Sequence[LevelResults], looks: tuple[Look, ...]) -> float:
    count = len(results[0].cloud_right)
    return totals(results, looks, 0, count).right / count


def _play(device: MeasuredDevice, looks: tuple[Look, ...]) -> Outcome:
    battery = SimulatedBattery(Cell(device.energy.hardware.battery_j), None)
    workload = Workload(LONGEST_DAYS, RATE_PER_S, STEP_S)
    outcome = simulate("", Fixed(looks), device, battery, workload)
    if outcome.life_days * DAY_S >= LONGEST_DAYS * DAY_S:
        raise RuntimeError("the battery outlives the simulation")
    return outcome
