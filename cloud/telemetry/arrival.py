"""The recorder's clock: seconds since 1970 that neither leap nor go back while it runs."""

from __future__ import annotations

import time


class ArrivalClock:
    """The wall clock at the start, and from then on a monotonic one.

    Setting the wall clock moves no arrival, so that nothing is dropped for its age too early, and
    what arrived later has a later time.
    """

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Return the time now."""
        return time.monotonic() + self._offset_s

    def at_least(self, unix_s: float) -> None:
        """Go on from ``unix_s``, an earlier run's last arrival, if that is ahead."""
        self._offset_s += max(unix_s - self(), 0.0)
