"""A set of sequence numbers, stored as ascending ranges: its size grows with the gaps only."""

from __future__ import annotations

from bisect import bisect_right

from cloud.telemetry.records import Ranges


class NumberRanges:
    """A set of numbers that are mostly consecutive."""

    def __init__(self, ranges: Ranges = ()) -> None:
        self._firsts = [first for first, _ in ranges]
        self._lasts = [last for _, last in ranges]

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    @property
    def ranges(self) -> Ranges:
        """The ranges (first, last), both included, in order."""
        return tuple(zip(self._firsts, self._lasts, strict=True))

    @property
    def highest(self) -> int:
        """The highest number; 0 if the set is empty."""
        return self._lasts[-1] if self._lasts else 0

    @property
    def through(self) -> int:
        """The highest n such that all numbers from 1 to n are in the set."""
        return self._lasts[0] if self._firsts and self._firsts[0] <= 1 else 0

    def gap(self, end: int) -> tuple[int, int] | None:
        """Return the first gap (first, last), inclusive, between 1 and ``end``; None
        without one.
        """
        first = self.through + 1
        following = 1 if self.through else 0
        if following < len(self._firsts):
            return first, self._firsts[following] - 1
        return (first, end) if first <= end else None

    def add(self, first: int, last: int | None = None) -> int:
        """Add ``first`` to ``last`` (by default only ``first``); return how many were new."""
        last = first if last is None else last
        # The ranges with indices from ``low`` to ``high`` - 1 overlap or touch the new one.
        low = bisect_right(self._lasts, first - 2)
        high = bisect_right(self._firsts, last + 1)
        inside = zip(self._firsts[low:high], self._lasts[low:high], strict=True)
        known = sum(max(min(b, last) - max(a, first) + 1, 0) for a, b in inside)
        if low < high:
            merged = (min(first, self._firsts[low]), max(last, self._lasts[high - 1]))
        else:
            merged = (first, last)
        self._firsts[low:high], self._lasts[low:high] = [merged[0]], [merged[1]]
        return last - first + 1 - known
