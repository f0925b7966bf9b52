"""What a report works out before it draws."""

from __future__ import annotations

import pytest

from cloud.telemetry.queries import Slice
from cloud.telemetry.ranges import NumberRanges
from cloud.telemetry.report import holes, nearly_all, slice_width, span


def piece(start_s: float, messages: int) -> Slice:
    return Slice(start_s=start_s, width_s=60.0, messages=messages, devices=1)


@pytest.mark.parametrize(
    ("seconds", "width_s"), [(0, 1), (150, 1), (151, 2), (86_400, 600), (1e10, 67_132_800)]
)
def test_slices_are_round_and_not_too_many(seconds: float, width_s: float) -> None:
    assert slice_width(seconds) == width_s


def test_a_few_messages_far_off_are_left_out() -> None:
    usual = [piece(60.0 * number, 100) for number in range(1000, 1010)]
    assert nearly_all([piece(0, 3), *usual, piece(1e9, 2)]) == usual
    assert nearly_all(usual) == usual
    assert nearly_all([piece(0, 1)]) == [piece(0, 1)]


def test_holes_lie_between_what_came() -> None:
    assert holes(((1, 7), (9, 9), (12, 30))) == 3
    assert holes(((5, 9),)) == holes(()) == 0


def test_ranges_that_touch_or_overlap_become_one() -> None:
    numbers = NumberRanges()
    for first, last in [(4, 6), (1, 3), (9, 12), (10, 11), (14, 14)]:
        numbers.add(first, last)
    assert numbers.ranges == ((1, 6), (9, 12), (14, 14))


def test_widths_are_said_in_the_largest_unit() -> None:
    assert [span(one) for one in (5, 900, 7200, 172_800)] == ["5 s", "15 min", "2 h", "2 d"]
