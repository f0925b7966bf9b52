"""The cloud's own fraction under load, on a virtual clock: a server that is only numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloud.native import (
    Demand,
    LevelController,
    QueueLimits,
    QueueState,
    RejectReason,
    SojournTimes,
    reject_reason,
)

STEP_S = 0.005
OBJECTIVE_S = 0.05
COSTS = (2e-6, 6e-6, 10e-6, 15e-6)  # seconds of a sample at each level, narrowest first


class Simulation:
    """Samples come at ``rate`` a second and are worked off at the level that is in use."""

    def __init__(self) -> None:
        self.controller = LevelController(len(COSTS), OBJECTIVE_S)
        self.demand = Demand(len(COSTS))
        self.now_s = 0.0
        self.queue = 0.0
        self.levels: list[int] = []
        self.delays_s: list[float] = []

    def run(self, seconds: float, rate: Callable[[float], float]) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            arrived = rate(self.now_s) * STEP_S
            self.queue += arrived
            level = self.controller.level
            self.queue = max(self.queue - STEP_S / COSTS[level], 0.0)
            self.demand.add(self.now_s, [arrived * cost for cost in COSTS])
            delays = [self.queue * cost for cost in COSTS]
            self.controller.update(self.now_s, delays, self.demand.shares(self.now_s))
            self.levels.append(self.controller.level)
            self.delays_s.append(self.queue * COSTS[level])

    @property
    def changes(self) -> int:
        return sum(a != b for a, b in zip(self.levels, self.levels[1:], strict=False))


def times_capacity(share: float) -> Callable[[float], float]:
    return lambda now_s: share / COSTS[-1]


def test_three_times_the_capacity_is_held_by_narrowing_and_left_within_five_seconds() -> None:
    simulation = Simulation()
    simulation.run(5, times_capacity(0.5))
    assert set(simulation.levels) == {len(COSTS) - 1}
    simulation.run(20, times_capacity(3.0))
    assert simulation.controller.level < len(COSTS) - 1
    overload = sorted(simulation.delays_s[-4000:])
    assert overload[int(0.99 * len(overload))] <= OBJECTIVE_S
    simulation.run(5, times_capacity(0.2))
    assert simulation.controller.level == len(COSTS) - 1


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.05, 6.0))
@example(share=2.5078125)  # the second level is just too wide, the third far too wide
def test_a_steady_load_settles(share: float) -> None:
    simulation = Simulation()
    simulation.run(60, times_capacity(share))
    settled = simulation.changes
    simulation.run(60, times_capacity(share))
    # A level that is just too wide is tried again, ever more rarely: twice a minute at the most.
    assert simulation.changes - settled <= 4


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.1, 6.0), wave=st.floats(0.0, 1.0), period_s=st.floats(0.5, 20.0))
def test_the_objective_is_held_whenever_the_narrowest_level_can(
    share: float, wave: float, period_s: float
) -> None:
    simulation = Simulation()

    def rate(now_s: float) -> float:
        high = (now_s % period_s) < period_s / 2
        return share * (1.0 if high else 1.0 - wave) / COSTS[-1]

    simulation.run(60, rate)
    late = sum(delay > OBJECTIVE_S for delay in simulation.delays_s)
    assert late <= 0.01 * len(simulation.delays_s)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.05, 0.99), spike_s=st.floats(0.1, 2.0), height=st.floats(1.5, 6.0))
def test_one_spike_does_not_leave_the_cloud_narrow(
    share: float, spike_s: float, height: float
) -> None:
    simulation = Simulation()
    simulation.run(5, times_capacity(share))
    simulation.run(spike_s, times_capacity(height))
    simulation.run(30, times_capacity(share))
    assert simulation.controller.level == len(COSTS) - 1


def test_clients_that_wait_for_their_answers_get_the_widest_level_that_is_in_time() -> None:
    controller = LevelController(len(COSTS), OBJECTIVE_S)
    in_flight = 1500  # all the time: the capacity is used up at every level
    delays = [in_flight * cost for cost in COSTS]
    controller.update(0.0, [1.0] * len(COSTS), [9.0] * len(COSTS))  # a spike
    assert controller.level == 0
    for step in range(8000):
        demand = [cost / COSTS[controller.level] for cost in COSTS]
        controller.update(step * STEP_S, delays, demand)
    assert controller.level == len(COSTS) - 1


def test_measured_times_narrow_although_the_prediction_is_fine() -> None:
    controller = LevelController(len(COSTS), OBJECTIVE_S)
    calm, demand = [0.001] * len(COSTS), [0.5] * len(COSTS)
    levels = [controller.update(step * STEP_S, calm, demand, True) for step in range(400)]
    assert levels[0] == len(COSTS) - 2
    assert levels[-1] == 0
    # One step at a time: a level is judged by the times that belong to it.
    assert all(before - after <= 1 for before, after in pairwise(levels))
    for step in range(400, 1200):
        controller.update(step * STEP_S, calm, demand, False)
    assert controller.level == len(COSTS) - 1


def test_one_late_request_is_no_reason_but_two_of_a_hundred_are() -> None:
    times = SojournTimes(0.25)
    for number in range(100):
        times.add(0.1, number == 0)
    assert not times.late(0.1)
    times.add(0.1, True)
    assert times.late(0.1)
    assert not times.late(1.0)  # the window has passed


def test_a_deadline_is_judged_at_the_level_that_is_in_use() -> None:
    limits = QueueLimits(1000, OBJECTIVE_S)
    state = QueueState(samples=10, client_samples=10, clients=0, delay_s=0.001, level_delay_s=0.03)
    assert reject_reason(state, limits, 1, 0.001, remaining_s=0.02) is RejectReason.LATE
    assert reject_reason(state, limits, 1, 0.001, remaining_s=0.05) is None


@given(
    own=st.integers(0, 100),
    others=st.integers(0, 100),
    clients=st.integers(0, 10),
    delay_s=st.floats(0.0, 0.2),
    samples=st.integers(1, 20),
)
def test_what_is_let_in_fits(
    own: int, others: int, clients: int, delay_s: float, samples: int
) -> None:
    total = own + (others if clients else 0)
    waiting = QueueState(total, own, clients, delay_s, delay_s)
    limits = QueueLimits(100, OBJECTIVE_S)
    reason = reject_reason(waiting, limits, samples, 1e-5, None)
    if not total:
        assert reason is None
    if reason is None and total:
        assert total + samples <= limits.samples
        assert delay_s <= limits.delay_s
    if reason is RejectReason.SHARE:
        assert own  # only who holds something already is greedy
    if clients and not own and reason is None and total:
        again = reject_reason(waiting, limits, samples, 1e-5, 1e-9)
        assert again is RejectReason.LATE
