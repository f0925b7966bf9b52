"""Time that steps of the wall clock do not spoil; times that users write."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from shared.errors import UsageError

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
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
    a battery model must not spend a year's charge because somebody set a date.
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


def parse_duration(text: str, flag: str = "--lifetime") -> float:
    """Seconds in a text such as ``7d``, ``36h`` or ``90m``; ``UsageError`` names ``flag``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    seconds = float(match[1]) * UNITS_S[match[2]] if match else 0.0
    if seconds <= 0:
        raise UsageError(f"{flag}: {text!r} is not allowed; give a time such as 7d, 36h or 90m")
    return seconds
