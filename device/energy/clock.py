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
