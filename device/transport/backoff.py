"""Exponential back-off with full jitter: the wait before trying again.

The jitter spreads the return of many devices that lost one server. Source: M. Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable

LARGEST_PUSHBACK_S = 60.0
PUSHBACK_KEY = "grpc-retry-pushback-ms"


class Backoff:
    """Waiting times: uniform from 0 to ``base_s * 2**n``, at most ``cap_s``, n failures so far.

    ``draw`` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        base_s: float = 0.1,
        cap_s: float = 5.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._draw = draw
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait now; the next wait tends to be twice as long."""
        # 2**60 ms is longer than any cap, and the exponent must not grow without bound.
        limit_s = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return limit_s * self._draw()

    def reset(self) -> None:
        """Start with short waits again, after a success."""
        self._failures = 0


def pushback_s(value: str | bytes | None) -> float | None:
    """Seconds that a server asks to wait by ``grpc-retry-pushback-ms``; None if it does not.

    A negative or unreadable value means "do not retry" in gRPC; here it means the longest wait, as
    a device that never came back would be lost.
    """
    if value is None:
        return None
    try:
        wait_s = int(value) / 1000
    except ValueError:
        return LARGEST_PUSHBACK_S
    return min(wait_s, LARGEST_PUSHBACK_S) if wait_s >= 0 else LARGEST_PUSHBACK_S
