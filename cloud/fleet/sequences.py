"""Track which sequence numbers of a device have arrived and which are missing. Pure."""

from __future__ import annotations

from cloud.telemetry.ranges import NumberRanges
from cloud.telemetry.records import Ranges

FARTHEST_AHEAD = 100_000  # more messages than a device can have sent unnoticed


class Sequences:
    """The numbers of one device, from 1; its births announce the next number."""

    def __init__(self, ranges: Ranges = ()) -> None:
        self._numbers = NumberRanges(ranges)
        self._known = bool(ranges)
        self._announced = 0
        self.given_up = 0

    @property
    def through(self) -> int:
        """The highest number up to which none is missing."""
        return self._numbers.through

    def announce(self, next_sequence: int) -> None:
        """Use the next number in a birth: all numbers below it have been sent."""
        self._known = True
        self._announced = max(self._announced, next_sequence - 1)

    def plausible(self, sequence: int, born: bool) -> bool:
        """Whether the device can have reached this number; ``born``: it has sent a birth."""
        if not self._known and not born:  # nothing to compare with
            return True
        return sequence <= max(self._numbers.highest, self._announced) + FARTHEST_AHEAD

    def add(self, sequence: int) -> bool:
        """Record that ``sequence`` has arrived; return False if it had arrived before."""
        self._known = True
        return bool(self._numbers.add(sequence))

    def hole(self) -> tuple[int, int] | None:
        """Return the first gap as (first, last), both inclusive; None if no number is missing."""
        return self._numbers.gap(self._announced)

    def give_up(self, last: int) -> None:
        """Treat missing numbers up to ``last`` as arrived, as the device no longer has them."""
        last = min(last, max(self._numbers.highest, self._announced))
        if last > 0:
            self.given_up += self._numbers.add(1, last)
