"""The sequence numbers of a device that have arrived, and those that are missing. Pure."""

from __future__ import annotations

from cloud.telemetry.ranges import NumberRanges
from cloud.telemetry.records import Ranges

FARTHEST_AHEAD = 100_000  # more than a device can have sent unseen


class Sequences:
    """The numbers of one device. Numbers start at 1; a birth announces the next one."""

    def __init__(self, ranges: Ranges = ()) -> None:
        self._numbers = NumberRanges(ranges)
        self._known = bool(ranges)
        self._announced = 0
        self.given_up = 0

    @property
    def through(self) -> int:
        """The number up to which none is missing."""
        return self._numbers.through

    def announce(self, next_sequence: int) -> None:
        """Take the next number from a birth: all numbers below it were sent."""
        self._known = True
        self._announced = max(self._announced, next_sequence - 1)

    def plausible(self, sequence: int, born: bool) -> bool:
        """Whether the device can have reached this number; ``born`` if it has sent any birth."""
        if not self._known and not born:  # nothing to compare with
            return True
        return sequence <= max(self._numbers.highest, self._announced) + FARTHEST_AHEAD

    def add(self, sequence: int) -> bool:
        """Note that ``sequence`` has arrived; False if it had already."""
        self._known = True
        return bool(self._numbers.add(sequence))

    def hole(self) -> tuple[int, int] | None:
        """Return the first run of missing numbers (first, last); None if none is missing."""
        return self._numbers.gap(self._announced)

    def give_up(self, last: int) -> None:
        """Stop waiting for missing numbers up to ``last``: the device no longer has them."""
        last = min(last, max(self._numbers.highest, self._announced))
        if last > 0:
            self.given_up += self._numbers.add(1, last)
