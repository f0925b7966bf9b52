"""The recorder's clock: seconds since 1970 that never jump or go back while it runs."""

from __future__ import annotations

import time


class ArrivalClock:
    """A clock that reads the wall clock once, and then adds the time of a monotonic clock.

    Changes of the wall clock do not affect it. So messages that arrive later always get a later
    time, and none is dropped too early for its age.
    """

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time now."""
        return time.monotonic() + self._offset_s

    def at_least(self, unix_s: float) -> None:
        """Advance to ``unix_s``, the last arrival of an earlier run, if that is ahead."""
        self._offset_s += max(unix_s - self(), 0.0)
