"""Clocks that a step of the wall clock does not disturb."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]  # seconds from any fixed point


def boot_s() -> float:
    """Seconds since the machine started, sleep included where the system counts it.

    Setting the wall clock does not move it, and it never goes back.
    """
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)


class Elapsed:
    """Seconds that passed between calls, by a ``clock`` that may jump.

    A step back counts as no time. A step ahead of more than ``longest_s`` counts as ``longest_s``:
    a battery model must not discharge by a year because a date was set.
    """

    def __init__(self, clock: Clock, longest_s: float = 3600.0) -> None:
        self._clock = clock
        self._longest_s = longest_s
        self._last_s = clock()

    def step(self) -> float:
        """Seconds since the last call, from 0 to ``longest_s``."""
        now_s = self._clock()
        passed_s = min(max(now_s - self._last_s, 0.0), self._longest_s)
        self._last_s = now_s
        return passed_s
