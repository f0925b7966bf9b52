"""Clocks that are independent of changes of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]  # returns seconds since any fixed moment


def boot_s() -> float:
    """Return the seconds since the machine started, including sleep if the system counts it.

    The clock never goes back, and setting the wall clock has no effect on it.
    """
    boot_clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)
