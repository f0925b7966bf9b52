"""What the controller makes of messages, and which sequence numbers it misses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.fleet.sequences import FARTHEST_AHEAD, Sequences
from cloud.fleet.state import DeviceState, FleetState, RefusedError
from shared.errors import UsageError
from shared.fleet.messages import (
    PROTOCOL,
    Birth,
    Death,
    Desired,
    DeviceSettings,
    Reported,
    Telemetry,
)


@given(st.permutations(list(range(1, 20))), st.integers(0, 19))
def test_any_order_is_complete_in_the_end_and_repeats_are_noticed(
    order: list[int], cut: int
) -> None:
    sequences = Sequences()
    sequences.announce(20)
    assert all(sequences.add(number) for number in order[:cut])
    assert not any(sequences.add(number) for number in order[:cut])
    missing = sorted(order[cut:])
    hole = sequences.hole()
    assert (hole[0] if hole else None) == (missing[0] if missing else None)
    assert all(sequences.add(number) for number in order[cut:])
    assert sequences.hole() is None
    assert sequences.through == 19


def test_stored_runs_go_on_and_gone_numbers_are_not_asked_for_again() -> None:
    sequences = Sequences(((3, 5), (8, 9)))
    assert sequences.hole() == (1, 2)
    sequences.give_up(2)
    assert sequences.hole() == (6, 7)
    sequences.give_up(7)
    assert sequences.hole() is None
    assert sequences.through == 9
    assert sequences.given_up == 4


def test_a_number_from_the_far_future_is_refused() -> None:
    device = DeviceState("a")
    device.learn(Birth("a", 1, 5, 0.0, PROTOCOL))
    device.learn(Telemetry("a", 1, 7, 0.0))
    with pytest.raises(RefusedError, match="far ahead"):
        device.learn(Telemetry("a", 1, FARTHEST_AHEAD + 8, 0.0))
    assert not device.learn(Telemetry("a", 1, 7, 0.0))


def test_a_death_counts_against_its_own_session_only() -> None:
    device = DeviceState("a")
    device.learn(Birth("a", 2, 1, 0.0, PROTOCOL))
    device.learn(Death("a", 1))  # the last will of an earlier connection comes late
    assert device.online
    device.learn(Death("a", 2))
    assert not device.online
    device.learn(Birth("a", 3, 1, 0.0, PROTOCOL))
    assert device.online


def test_a_version_that_was_never_desired_is_refused() -> None:
    device = DeviceState("a")
    device.change(DeviceSettings(fraction="0.5"))
    device.learn(Reported("a", 1, 1))
    with pytest.raises(RefusedError, match="never desired"):
        device.learn(Reported("a", 1, 2))


def test_a_report_that_is_ahead_counts_once_its_version_is_known() -> None:
    device = DeviceState("a")
    device.learn(Desired(2))
    with pytest.raises(RefusedError, match="never desired"):
        device.learn(Reported("a", 1, 3))  # a broker that was killed has lost version 3
    assert device.reported is None
    device.learn(Desired(3))
    assert device.reported == Reported("a", 1, 3)


def test_the_next_change_is_later_than_a_report_that_is_ahead() -> None:
    device = DeviceState("a")
    device.learn(Desired(2))
    with pytest.raises(RefusedError):
        device.learn(Reported("a", 1, 5))
    assert device.change(DeviceSettings("0.5")).version == 6
    assert device.reported == Reported("a", 1, 5)
    with pytest.raises(RefusedError):
        device.learn(Reported("a", 1, 10**6))  # that cannot be
    assert device.change(DeviceSettings("0.7")).version == 7


def test_a_report_of_an_earlier_session_is_one_that_a_killed_broker_still_had() -> None:
    device = DeviceState("a")
    device.learn(Desired(3))
    device.learn(Reported("a", 2, 3, epoch="e"))
    device.learn(Reported("a", 1, 2, epoch="e"))
    assert device.reported == Reported("a", 2, 3, epoch="e")
    device.learn(Reported("a", 1, 3, epoch="f"))  # another ledger
    assert device.reported == Reported("a", 1, 3, epoch="f")


def test_a_target_that_is_nobody_names_the_groups() -> None:
    fleet = FleetState("city")
    fleet.device("cam").learn(Birth("cam", 1, 1, 0.0, PROTOCOL, groups=("north",)))
    assert [one.name for one in fleet.select("north")] == ["cam"]
    with pytest.raises(UsageError, match=r"'south' is no device and no group.*groups are north"):
        fleet.select("south")


def test_a_death_of_an_earlier_epoch_does_not_count() -> None:
    device = DeviceState("a")
    device.learn(Birth("a", 9, 50, 0.0, PROTOCOL, epoch="old"))
    device.learn(Telemetry("a", 9, 49, 0.0, epoch="old"))
    device.learn(Birth("a", 1, 1, 0.0, PROTOCOL, epoch="new"))  # the ledger was lost
    assert device.online
    device.learn(Death("a", 9, epoch="old"))
    assert device.online
    assert device.learn(Telemetry("a", 1, 1, 0.0, epoch="new"))
    assert device.telemetry == Telemetry("a", 1, 1, 0.0, epoch="new")
    assert not device.learn(Telemetry("a", 9, 49, 0.0, epoch="old"))
    device.learn(Death("a", 1, epoch="new"))
    assert not device.online


def test_holes_are_those_of_the_present_epoch() -> None:
    device = DeviceState("a")
    device.learn(Birth("a", 1, 5, 0.0, PROTOCOL, epoch="old"))
    assert device.sequences.hole() == (1, 4)
    device.learn(Birth("a", 1, 1, 0.0, PROTOCOL, epoch="new"))
    assert device.sequences.hole() is None
