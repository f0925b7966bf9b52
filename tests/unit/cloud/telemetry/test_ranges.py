"""Sets of numbers kept as ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.telemetry.ranges import NumberRanges

PAIRS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 8)), max_size=25)


@given(PAIRS)
def test_ranges_hold_what_a_set_of_numbers_holds(pairs: list[tuple[int, int]]) -> None:
    numbers, held = NumberRanges(), set[int]()
    for first, more in pairs:
        wanted = set(range(first, first + more + 1))
        assert numbers.add(first, first + more) == len(wanted - held)
        held |= wanted
    assert {n for first, last in numbers.ranges for n in range(first, last + 1)} == held
    assert all((number in numbers) == (number in held) for number in range(60))
    assert numbers.highest == max(held, default=0)
    ends = [last for _, last in numbers.ranges[:-1]]
    starts = [first for first, _ in numbers.ranges[1:]]
    assert all(start > end + 1 for end, start in zip(ends, starts, strict=True))
    missing = [number for number in range(1, 61) if number not in held]
    gap = numbers.gap(60)
    assert (gap[0] if gap else None) == (missing[0] if missing else None)
