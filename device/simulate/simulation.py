"""Simulate days of a device from a battery model, a policy, and measured results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from device.energy.harvest import HarvestHistory
from device.energy.recharge import DAY_S
from device.energy.simulated_battery import SimulatedBattery
from device.policy.operating_points import LevelTable
from device.policy.simple import Decision, Look, Policy, Situation
from device.simulate.results import LevelResults, totals
from shared.energy.model import EnergyModel
from shared.model.exits import NEVER

STEP_S = 600.0  # seconds between decisions of the policy
TELEMETRY_BYTES = 600  # size of a telemetry message of the agent


@dataclass(frozen=True)
class Workload:
    """How long the device runs and how many samples per second it takes.

    The policy decides every ``step_s``. Telemetry is sent every ``telemetry_s``, None for never.
    With ``by_history`` the policy forecasts the harvest from earlier days; otherwise it knows the
    charging schedule.
    """

    days: float = 7.0
    rate_per_s: float = 5.0
    step_s: float = STEP_S
    telemetry_s: float | None = None
    by_history: bool = False


@dataclass(frozen=True)
class Moment:
    """The state at the start of a step, for the figure."""

    day: float
    charge: float
    fraction: float
    accuracy: float


@dataclass(frozen=True)
class MeasuredDevice:
    """The simulated device: tables and results of every level, and its energy model.

    ``exit_thresholds`` by level are used if the policy leaves them open; None means no exits.
    ``ask_below`` holds the server's margins at [first level][second level].
    """

    tables: Sequence[LevelTable]
    results: Sequence[LevelResults]
    energy: EnergyModel
    exit_thresholds: Sequence[float] | None = None
    ask_below: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Outcome:
    """The results of a policy under the workload.

    life_days  time until the battery was first empty, or the whole workload
    accuracy   share of right answers among the answered samples
    delivered  share of right answers among all samples of the workload
    on_device  share of the answers given by the exit head
    looks      mean number of looks at an answered sample
    energy_mj  mean energy of an answered sample in millijoules, without idling
    changes    number of changes of the policy's decision
    """

    policy: str
    life_days: float = 0.0
    accuracy: float = 0.0
    delivered: float = 0.0
    answered: int = 0
    offered: int = 0
    on_device: float = 0.0
    looks: float = 0.0
    energy_mj: float = 0.0
    mean_fraction: float = 0.0
    payload_bytes: float = 0.0
    packets_per_sample: float = 0.0
    changes: int = 0
    explained: list[str] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)


@dataclass(frozen=True)
class _Spent:
    """Energy, bytes and results of the samples of one step."""

    energy_j: float
    right: int
    stayed: int
    again: int
    payload_bytes: int
    exchanges: int


def simulate(
    name: str,
    policy: Policy,
    device: MeasuredDevice,
    battery: SimulatedBattery,
    workload: Workload,
) -> Outcome:
    """Run ``device`` under ``policy`` for the whole workload; modifies ``battery``."""
    run = _Simulation(policy, device, battery, workload)
    for step in range(math.ceil(workload.days * DAY_S / workload.step_s)):
        run.step(step)
    return run.outcome(name)


class _Simulation:
    """The simulation of one policy, step by step, and its totals."""

    def __init__(
        self,
        policy: Policy,
        device: MeasuredDevice,
        battery: SimulatedBattery,
        workload: Workload,
    ) -> None:
        self._policy = policy
        self._device = device
        self._battery = battery
        self._workload = workload
        self._spent: list[_Spent] = []
        self._history = HarvestHistory()
        self._drawn_j = 0.0  # energy drawn from the battery in the last step
        self._offered = self._answered = 0
        self._fraction_sum = 0.0
        self._empty_s: float | None = None  # time at which the battery was first empty
        self._choices: list[tuple[tuple[Look, ...], float]] = []  # different choices so far
        self._explained: list[str] = []
        self._moments: list[Moment] = []

    def step(self, number: int) -> None:
        """Simulate step ``number``."""
        workload, battery = self._workload, self._battery
        each = workload.rate_per_s * workload.step_s
        first, last = round(number * each), round((number + 1) * each)
        situation = self._situation()
        decision = self._policy.decide(situation)
        looks = self._looks(decision)
        spent, answered = self._run_samples(decision, looks, first, last - first)
        battery.advance(workload.step_s)
        self._offered += last - first
        self._answered += answered
        self._spent.append(spent)
        fraction = self._device.tables[decision.level].fraction
        self._fraction_sum += answered * fraction
        day = number * workload.step_s / DAY_S
        self._note(day, (looks, decision.wait_s), decision.reason)
        accuracy = spent.right / answered if answered else math.nan
        self._moments.append(Moment(day, situation.charge.level, fraction, accuracy))

    def outcome(self, name: str) -> Outcome:
        """Return the totals so far as the outcome of the policy ``name``."""
        answered = max(self._answered, 1)
        right = sum(spent.right for spent in self._spent)
        life_s = self._workload.days * DAY_S if self._empty_s is None else self._empty_s
        return Outcome(
            policy=name,
            life_days=life_s / DAY_S,
            accuracy=right / answered,
            delivered=right / max(self._offered, 1),
            answered=self._answered,
            offered=self._offered,
            on_device=sum(spent.stayed for spent in self._spent) / answered,
            looks=1 + sum(spent.again for spent in self._spent) / answered,
            energy_mj=1000 * sum(spent.energy_j for spent in self._spent) / answered,
            mean_fraction=self._fraction_sum / answered,
            payload_bytes=sum(spent.payload_bytes for spent in self._spent) / answered,
            packets_per_sample=sum(spent.exchanges for spent in self._spent) / answered,
            changes=max(len(self._choices) - 1, 0),
            explained=self._explained,
            moments=self._moments,
        )

    def _situation(self) -> Situation:
        battery = self._battery
        left_s = self._workload.days * DAY_S - battery.now_s
        forecast = battery.forecast(left_s) if left_s > 0 else ()
        if self._workload.by_history:
            self._history.observe(battery.now_s, battery.stored_j, self._drawn_j)
            forecast = self._history.forecast(battery.now_s, max(left_s, 0.0))
        return Situation(
            charge=battery.charge(),
            now_s=battery.now_s,
            stored_j=battery.stored_j,
            forecast=forecast,
            rate_per_s=self._workload.rate_per_s,
        )

    def _looks(self, decision: Decision) -> tuple[Look, ...]:
        """Return the looks of a decision, with open thresholds filled in."""
        look, *later = decision.looks
        threshold, ask_below = look.exit_threshold, look.ask_below
        if threshold is None:
            defaults = self._device.exit_thresholds
            threshold = NEVER if defaults is None else defaults[look.level]
        if ask_below is None and later:
            ask_below = self._device.ask_below[look.level][later[0].level]
        return (replace(look, exit_threshold=threshold, ask_below=ask_below), *later)

    def _run_samples(
        self, decision: Decision, looks: tuple[Look, ...], first: int, count: int
    ) -> tuple[_Spent, int]:
        """Discharge the battery by ``count`` samples and idling.

        Returns the costs, and the number of samples for which its charge sufficed.
        """
        battery, step_s = self._battery, self._workload.step_s
        need = self._need(decision, looks, first, count)
        idle_j = self._device.energy.hardware.idle_w * step_s + self._telemetry_j(step_s)
        share = battery.spend(need.energy_j + idle_j)
        self._drawn_j = share * (need.energy_j + idle_j)
        if share >= 1:
            return need, count
        if self._empty_s is None:
            self._empty_s = battery.now_s + share * step_s
        done = round(share * count)
        return self._need(decision, looks, first, done), done

    def _telemetry_j(self, seconds: float) -> float:
        """Return the joules for the telemetry of ``seconds``."""
        every_s = self._workload.telemetry_s
        if every_s is None:
            return 0.0
        return seconds / every_s * self._device.energy.exchange_j(TELEMETRY_BYTES)

    def _need(self, decision: Decision, looks: tuple[Look, ...], first: int, count: int) -> _Spent:
        """Return energy and results of ``count`` samples from index ``first`` on."""
        device, energy, batch = self._device, self._device.energy, decision.batch
        look, table = looks[0], device.tables[looks[0].level]
        found = totals(device.results, looks, first, count)
        asks_exit = look.exit_threshold is not None and look.exit_threshold <= 1
        asks_exit = asks_exit or look.escalate_below > 0
        work = table.work + table.exit_work if asks_exit else table.work
        energy_j = count * (energy.picture_j(self._workload.rate_per_s) + energy.compute_j(work))
        exchanges = math.ceil(found.sent / batch)
        size_bytes = found.first_bytes * self._shrunk(look.level, batch)
        if exchanges:
            each_j = energy.exchange_j(size_bytes / exchanges, found.sent / exchanges)
            energy_j += exchanges * each_j
        if found.again:
            level = looks[1].level
            # Samples that shared a request also share one for their second looks.
            requests = min(found.again, max(exchanges, math.ceil(found.again / batch)))
            second_bytes = found.second_bytes * self._shrunk(level, batch)
            energy_j += found.again * energy.compute_j(device.tables[level].work)
            each_j = energy.exchange_j(second_bytes / requests, found.again / requests)
            energy_j += requests * each_j
            exchanges, size_bytes = exchanges + requests, size_bytes + second_bytes
        return _Spent(
            energy_j, found.right, found.stayed, found.again, round(size_bytes), exchanges
        )

    def _shrunk(self, level: int, batch: int) -> float:
        """Return the bytes of a sample in a batch relative to one that is sent alone."""
        if batch == 1:
            return 1.0
        results = self._device.results[level]
        return results.batched_bytes / max(float(results.payload_bytes.mean()), 1.0)

    def _note(self, day: float, choice: tuple[tuple[Look, ...], float], reason: str) -> None:
        """Record a decision if it differs from the last one."""
        if not self._choices or choice != self._choices[-1]:
            self._choices.append(choice)
            self._explained.append(f"day {day:.2f}: {reason}")


def dominates(one: Outcome, other: Outcome) -> bool:
    """Whether ``one`` is as good as ``other`` in life and accuracy, and better in one of them."""
    pair, than = (one.life_days, one.accuracy), (other.life_days, other.accuracy)
    return all(a >= b for a, b in zip(pair, than, strict=True)) and pair != than
