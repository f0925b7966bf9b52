"""The decisions of a roll-out: waves, the absent, verdicts and the way back."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from cloud.fleet.rollout.core import (
    QUIET_S,
    TAKE_WITHIN_S,
    Evidence,
    Observation,
    resumed,
    step,
    stop,
)
from cloud.fleet.rollout.record import CONTROL, MemberState, Phase, RolloutRecord, plan
from cloud.fleet.rollout.sequential import Outcome, judge
from cloud.fleet.state import DeviceState
from cloud.telemetry.sums import Sums
from shared.errors import UsageError
from shared.fleet.messages import DeviceSettings, Reported
from shared.fleet.scenario import Rollout
from tests.benchmarks.rollouts import made_worse, read, simulate

RULES = Rollout.model_validate(
    {"model": "new", "waves": [0.5, 1.0], "watch": "10s", "control": 0.2}
)
GOOD = Sums(answered_cloud=2000, labelled=2000, right=1960, waited_ms=2000.0, energy_j=2.0)
BAD = Sums(answered_cloud=2000, labelled=2000, right=1800, waited_ms=2000.0, energy_j=2.0)


class Fleet:
    """Devices that take what is ordered, if they are online, and a roll-out of them."""

    def __init__(self, count: int = 20, rules: Rollout = RULES) -> None:
        names = [f"d{number}" for number in range(count)]
        self.desired: dict[str, str | None] = dict.fromkeys(names)
        self.model = dict.fromkeys(names, "old")
        self.away: set[str] = set()
        self.refusing: set[str] = set()
        devices = [DeviceState(name) for name in names]
        for one in devices:
            one.reported = Reported(one.name, 1, 0, DeviceSettings(model="old"))
        self.record = plan("city", 1, rules, devices, 0.0)
        self.now_s = 0.0

    def step(self, evidence: Evidence | None = None) -> dict[str, str | None]:
        self.now_s += 1
        result = step(self.record, self.seen(), evidence or Evidence(self.now_s), self.now_s)
        self.record = result.record
        self.desired.update(result.orders)
        self.follow()
        return result.orders

    def follow(self) -> None:
        for name, wanted in self.desired.items():
            if name not in self.away | self.refusing:
                self.model[name] = wanted or "old"

    def seen(self) -> dict[str, Observation]:
        return {
            name: Observation(
                name not in self.away,
                name not in self.away,
                self.desired[name],
                self.model[name],
                "v1",
                "no" if name in self.refusing and self.desired[name] == "new" else "",
            )
            for name in self.desired
        }

    def judged(self, sums: Sums, newest_s: float) -> Evidence:
        """Evidence in which devices with the new model have done ``sums``."""
        having = {name for name, model in self.model.items() if model == "new"}
        return Evidence(
            newest_s,
            dict.fromkeys(having, sums),
            dict.fromkeys(self.model.keys() - having, GOOD),
        )

    def has(self, state: MemberState) -> set[str]:
        return {name for name, one in self.record.members.items() if one.state is state}

    def of(self, waves: Iterable[int]) -> set[str]:
        return {one.name for wave in waves for one in self.record.of_wave(wave)}

    def phase(self) -> Phase:
        return self.record.progress.phase


def test_an_equal_model_goes_through_all_waves_and_then_to_the_control_group() -> None:
    fleet = Fleet()
    assert set(fleet.step()) == fleet.of([0])
    assert len(fleet.of([CONTROL])) == 4
    fleet.step()
    assert fleet.record.progress.mark_s is not None
    fleet.step(fleet.judged(GOOD, fleet.now_s + 5))  # enough samples, not watched long enough
    assert fleet.record.progress.wave == 0
    fleet.step(fleet.judged(GOOD, fleet.now_s + 20))
    assert fleet.record.progress.wave == 1
    assert set(fleet.step()) == fleet.of([1])
    fleet.step()
    fleet.step(fleet.judged(GOOD, fleet.now_s + 20))
    assert fleet.phase() is Phase.SPREADING
    assert set(fleet.step()) == fleet.of([CONTROL])
    fleet.step()
    assert fleet.phase() is Phase.DONE
    assert set(fleet.model.values()) == {"new"}


def test_a_worse_model_is_stopped_and_every_device_confirms_that_it_is_back() -> None:
    fleet = Fleet()
    fleet.step()
    fleet.step()
    having = fleet.has(MemberState.TOOK)
    lost = min(having)
    fleet.step(fleet.judged(BAD, fleet.now_s + 1))
    assert fleet.phase() is Phase.GOING_BACK
    assert "accuracy 0.9 against 0.98" in fleet.record.progress.reason
    fleet.away = {lost}
    assert set(fleet.step()) == having  # the absent find it when they are back
    fleet.step()
    assert fleet.phase() is Phase.STOPPED
    assert (fleet.has(MemberState.BACK), fleet.has(MemberState.RETURNING)) == (
        having - {lost},
        {lost},
    )
    fleet.away = set()
    fleet.follow()
    fleet.step()
    assert fleet.has(MemberState.BACK) == having
    assert set(fleet.model.values()) == {"old"}


def test_the_absent_are_skipped_and_asked_when_they_are_back() -> None:
    fleet = Fleet()
    first = sorted(fleet.of([0]))
    fleet.away = {first[0]}
    assert set(fleet.step()) == set(first[1:])
    fleet.step()
    assert fleet.record.progress.mark_s is not None
    fleet.away = set()
    assert set(fleet.step(fleet.judged(GOOD, fleet.now_s + 5))) == {first[0]}


def test_a_silent_device_holds_a_wave_up_for_a_while_only() -> None:
    fleet = Fleet()
    silent = min(fleet.of([0]))
    fleet.refusing = {silent}
    record = fleet.record
    seen = {name: one for name, one in fleet.seen().items() if name != silent}
    seen[silent] = Observation(online=True, answered=False, desired="new", model="old")
    record = step(record, seen, Evidence(1.0), 1.0).record
    others = {
        name: Observation(True, True, "new", "new", "v1") for name in fleet.of([0]) - {silent}
    }
    record = step(record, {**seen, **others}, Evidence(1.0), 2.0).record
    assert record.progress.mark_s is None
    record = step(record, {**seen, **others}, Evidence(1.0), TAKE_WITHIN_S + 1).record
    assert record.progress.mark_s == 1.0


def test_devices_that_refuse_stop_it() -> None:
    fleet = Fleet()
    fleet.refusing = {min(fleet.of([0]))}
    fleet.step()
    fleet.step()
    assert fleet.phase() is Phase.GOING_BACK
    assert f"1 devices could not take the model, {min(fleet.refusing)}: no" in (
        fleet.record.progress.reason
    )


def test_another_version_than_the_first_devices_is_not_accepted() -> None:
    fleet = Fleet()
    fleet.step()
    seen = fleet.seen()
    odd = max(fleet.of([0]))
    seen[odd] = Observation(True, True, "new", "new", "v2")
    record = step(fleet.record, seen, Evidence(1.0), 2.0).record
    assert record.members[odd].state is MemberState.REFUSED


def test_what_a_broker_has_lost_is_ordered_again() -> None:
    fleet = Fleet()
    fleet.step()
    fleet.step()
    fleet.desired = dict.fromkeys(fleet.desired)
    assert set(fleet.step(fleet.judged(GOOD, fleet.now_s))) == fleet.of([0])


def test_going_back_restores_what_was_desired_before() -> None:
    fleet = Fleet(count=4)
    assert {one.desired for one in fleet.record.members.values()} == {None}
    fleet.step()
    fleet.record = stop(fleet.record, "aborted")
    assert set(fleet.step().values()) == {None}
    fleet.step()
    assert fleet.phase() is Phase.STOPPED


def test_another_process_tells_devices_that_go_back_again() -> None:
    fleet = Fleet()
    fleet.step()
    fleet.step()
    having = fleet.has(MemberState.TOOK)
    fleet.record = stop(fleet.record, "aborted")
    kept = step(fleet.record, fleet.seen(), Evidence(1.0), 9.0).record  # its orders are lost
    # The broker may have lost that the devices have the model, and shows old answers.
    fleet.model, fleet.desired = dict.fromkeys(fleet.model, "old"), dict.fromkeys(fleet.desired)
    orders = step(resumed(kept, 10.0), fleet.seen(), Evidence(1.0), 11.0).orders
    assert orders == dict.fromkeys(having)


def test_the_end_does_not_wait_for_ever_for_a_device_that_does_not_answer() -> None:
    fleet = Fleet()
    fleet.step()
    fleet.step()
    lost = min(fleet.has(MemberState.TOOK))
    fleet.record = stop(fleet.record, "aborted")
    fleet.step()
    fleet.model[lost] = "new"  # it counts as connected, and has not answered
    for _ in range(3):
        fleet.refusing = {lost}
        fleet.model[lost] = "new"
        fleet.step()
    assert fleet.phase() is Phase.GOING_BACK
    fleet.now_s += QUIET_S
    fleet.step()
    assert fleet.phase() is Phase.STOPPED
    assert fleet.has(MemberState.RETURNING) == {lost}


def test_one_device_alone_has_no_control_group() -> None:
    with pytest.raises(UsageError, match="one device alone cannot be judged"):
        Fleet(count=1)


def test_few_samples_decide_nothing() -> None:
    few = [Sums(answered_cloud=5, labelled=5, right=0)] * 10
    assert judge(RULES, few, few).outcome is Outcome.OPEN


def test_a_shift_of_local_answers_stops_without_labels() -> None:
    old = [Sums(answered_device=900, answered_cloud=100)] * 10
    new = [Sums(answered_device=500, answered_cloud=500)] * 10
    verdict = judge(RULES, new, old)
    assert (verdict.outcome, verdict.reason) == (Outcome.STOP, "local answers 0.5 against 0.9")


def test_recorded_outputs_are_judged_right() -> None:
    outputs = read()
    binary, exits = outputs["binary"], outputs["exits"]
    worse = made_worse(binary, outputs["paper"], 0.015)
    assert simulate(binary, binary, True, 1)[0] is Phase.SPREADING
    assert simulate(binary, worse, True, 1)[0] is Phase.GOING_BACK
    assert simulate(exits, exits, False, 1)[0] is Phase.SPREADING
    assert simulate(exits, outputs["narrow"], False, 1)[0] is Phase.GOING_BACK


def test_a_record_knows_its_devices() -> None:
    record: RolloutRecord = Fleet(count=10).record
    assert record.counts()["waiting"] == 10
    assert [len(record.of_wave(wave)) for wave in (0, 1, CONTROL)] == [4, 4, 2]
