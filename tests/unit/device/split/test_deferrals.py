"""Samples that are refused for now."""

from __future__ import annotations

from device.split.deferrals import GIVE_UP_S, LONGEST_S, Deferrals


def test_waits_double_up_to_an_hour_and_end_after_a_day() -> None:
    deferrals, now_s, waits = Deferrals(), 0.0, []
    while deferrals.defer(1, now_s):
        began_s = now_s
        while deferrals.waiting(now_s):
            now_s += 1.0
        waits.append(now_s - began_s)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(waits) == LONGEST_S
    assert GIVE_UP_S <= now_s < GIVE_UP_S + LONGEST_S
    assert deferrals.waiting(now_s) == frozenset()


def test_each_sample_has_its_own_wait_and_one_that_is_answered_starts_anew() -> None:
    deferrals = Deferrals()
    for now_s in (0.0, 1.0, 3.0):
        deferrals.defer(1, now_s)
    deferrals.defer(2, 3.0)
    assert deferrals.waiting(4.5) == {1}
    deferrals.forget(1)
    deferrals.defer(1, 5.0)
    assert deferrals.waiting(5.5) == {1}
    assert deferrals.waiting(6.5) == frozenset()
