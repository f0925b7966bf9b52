"""Days of a device's life in seconds: a battery, a policy, and results that were measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from device.energy.model import EnergyModel
from device.energy.recharge import DAY_S
from device.energy.simulated_battery import SimulatedBattery
from device.policy.operating_points import LevelTable
from device.policy.simple import Decision, Policy, Situation
from device.simulate.results import LevelResults
from shared.model.exits import NEVER

STEP_S = 600.0  # a policy is asked this often


@dataclass(frozen=True)
class Workload:
    """How long and how busy. ``deadline``-free: energy and accuracy are what is compared."""

    days: float = 7.0
    rate_per_s: float = 5.0
    step_s: float = STEP_S


@dataclass(frozen=True)
class Moment:
    """The state at the start of a step, for the figure."""

    day: float
    charge: float
    fraction: float
    accuracy: float


@dataclass
class Outcome:
    """What one policy made of the workload.

    life_days      until the battery was empty for the first time, or all of the workload
    accuracy       share of right answers among the samples that were answered
    delivered      share of right answers among all samples of the workload
    on_device      share of the answers that came from the exit head
    energy_mj      mean of an answered sample, in millijoules, idling not counted
    """

    policy: str
    life_days: float = 0.0
    accuracy: float = 0.0
    delivered: float = 0.0
    answered: int = 0
    offered: int = 0
    on_device: float = 0.0
    energy_mj: float = 0.0
    mean_fraction: float = 0.0
    payload_bytes: float = 0.0
    packets_per_sample: float = 0.0
    changes: int = 0
    explained: list[str] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)


@dataclass(frozen=True)
class _Spent:
    """What the samples of one step cost and gave."""

    energy_j: float
    right: int
    stayed: int
    payload_bytes: int
    exchanges: int


def simulate(
    name: str,
    policy: Policy,
    default_thresholds: Sequence[float] | None,
    tables: Sequence[LevelTable],
    results: Sequence[LevelResults],
    model: EnergyModel,
    battery: SimulatedBattery,
    workload: Workload,
) -> Outcome:
    """Let ``policy`` run the device; ``battery`` is used up.

    ``default_thresholds`` are the exits of a policy that leaves them open; None: no exits.
    """
    outcome = Outcome(name, life_days=workload.days)
    right = stayed = sent = exchanges = 0
    energy_j = fraction_sum = 0.0
    dead = False
    last: tuple[object, ...] = ()
    steps = math.ceil(workload.days * DAY_S / workload.step_s)
    each = workload.rate_per_s * workload.step_s
    for step in range(steps):
        first, count = round(step * each), round((step + 1) * each) - round(step * each)
        outcome.offered += count
        left_s = workload.days * DAY_S - battery.now_s
        situation = Situation(
            charge=battery.charge(),
            now_s=battery.now_s,
            stored_j=battery.stored_j,
            forecast=battery.forecast(left_s) if left_s > 0 else (),
            rate_per_s=workload.rate_per_s,
        )
        decision = policy.decide(situation)
        threshold = _threshold(decision, default_thresholds)
        table, level = tables[decision.level], results[decision.level]
        need = _spend(decision, threshold, table, level, first, count, model)
        idle_j = model.hardware.idle_w * workload.step_s
        share = battery.spend(need.energy_j + idle_j)
        done = round(share * count)
        if share < 1:
            need = _spend(decision, threshold, table, level, first, done, model)
            if not dead:
                outcome.life_days = (battery.now_s + share * workload.step_s) / DAY_S
                dead = True
        battery.advance(workload.step_s)
        outcome.answered += done
        right, stayed, sent = right + need.right, stayed + need.stayed, sent + need.payload_bytes
        exchanges += need.exchanges
        energy_j += need.energy_j
        fraction_sum += done * table.fraction
        ways = (decision.level, threshold, decision.wait_s)
        if ways != last:
            outcome.changes += bool(last)
            last = ways
            outcome.explained.append(f"day {step * workload.step_s / DAY_S:.2f}: {decision.reason}")
        accuracy = need.right / done if done else math.nan
        day = step * workload.step_s / DAY_S
        outcome.moments.append(Moment(day, situation.charge.level, table.fraction, accuracy))
    answered = max(outcome.answered, 1)
    outcome.accuracy = right / answered
    outcome.delivered = right / max(outcome.offered, 1)
    outcome.on_device = stayed / answered
    outcome.energy_mj = 1000 * energy_j / answered
    outcome.mean_fraction = fraction_sum / answered
    outcome.payload_bytes = sent / answered
    outcome.packets_per_sample = exchanges / answered
    return outcome


def _threshold(decision: Decision, defaults: Sequence[float] | None) -> float:
    if decision.exit_threshold is not None:
        return decision.exit_threshold
    return NEVER if defaults is None else defaults[decision.level]


def _spend(
    decision: Decision,
    threshold: float,
    table: LevelTable,
    level: LevelResults,
    first: int,
    count: int,
    model: EnergyModel,
) -> _Spent:
    """Energy and results of ``count`` samples from number ``first`` on."""
    got = level.counts(first, count, threshold)
    away = count - got.stayed
    exchanges = math.ceil(away / decision.batch)
    size_bytes = float(got.payload_bytes)
    if decision.batch > 1:
        size_bytes *= level.batched_bytes / max(float(level.payload_bytes.mean()), 1.0)
    work = table.work + table.exit_work if threshold <= 1 else table.work
    energy_j = count * (model.hardware.sensor_j + model.compute_j(work))
    if exchanges:
        one_j = model.exchange_j(size_bytes / exchanges, away / exchanges)
        energy_j += exchanges * one_j
    return _Spent(energy_j, got.right, got.stayed, round(size_bytes), exchanges)


def dominates(one: Outcome, other: Outcome) -> bool:
    """Whether ``one`` is at least as good in life and accuracy as ``other``, and better in one."""
    pair, than = (one.life_days, one.accuracy), (other.life_days, other.accuracy)
    return all(a >= b for a, b in zip(pair, than, strict=True)) and pair != than
