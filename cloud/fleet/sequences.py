"""Which sequence numbers of a device have come, and which are missing. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort

from cloud.telemetry.records import Ranges

FARTHEST_AHEAD = 100_000  # a device cannot have sent that many that we have not seen


class Sequences:
    """The numbers of one device: all up to ``through``, and some above it."""

    def __init__(self, ranges: Ranges = ()) -> None:
        # Until something is known the first number that comes is the first there is.
        self._known = bool(ranges)
        whole = bool(ranges) and ranges[0][0] == 1
        self.through = ranges[0][1] if whole else 0
        rest = ranges[1:] if whole else ranges
        self._above = [n for first, last in rest for n in range(first, last + 1)]
        self._announced = 0
        self.given_up = 0

    def announce(self, next_sequence: int) -> None:
        """A birth says which number comes next: all below it were sent."""
        self._known = True
        self._announced = max(self._announced, next_sequence - 1)

    def plausible(self, sequence: int) -> bool:
        """Whether the device can have come so far."""
        if not self._known:
            return True
        highest = max(self.through, self._announced, self._above[-1] if self._above else 0)
        return sequence <= highest + FARTHEST_AHEAD

    def add(self, sequence: int) -> bool:
        """Note that ``sequence`` has come; False if it had already."""
        if not self._known:
            self._known, self.through = True, sequence
            return True
        if sequence == self.through + 1:
            self.through = sequence
            while self._above and self._above[0] == self.through + 1:
                self.through = self._above.pop(0)
            return True
        if sequence <= self.through:
            return False
        place = bisect_left(self._above, sequence)
        if place < len(self._above) and self._above[place] == sequence:
            return False
        insort(self._above, sequence)
        return True

    def hole(self) -> tuple[int, int] | None:
        """The first run of missing numbers, both ends in; None if nothing is missing."""
        end = self._above[0] - 1 if self._above else self._announced
        return (self.through + 1, end) if end > self.through else None

    def give_up(self, last: int) -> None:
        """The device no longer has what is missing up to ``last``."""
        while self.through < last:
            hole = self.hole()
            if hole is None:
                return
            end = min(hole[1], last)
            self.given_up += end - self.through
            self.through = end
            while self._above and self._above[0] == self.through + 1:
                self.through = self._above.pop(0)
