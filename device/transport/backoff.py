"""Exponential back-off with full jitter: how long to wait before the next attempt.

The jitter spreads the attempts of many devices that have lost the same server. Source: M. Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable

LARGEST_PUSHBACK_S = 60.0
PUSHBACK_KEY = "grpc-retry-pushback-ms"


class Backoff:
    """Waiting times: uniform from 0 to min(``cap_s``, ``base_s * 2**n``) after n failures.

    ``draw`` returns random numbers from 0 to 1.
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
        """Return the seconds to wait now, and double the range of the next wait."""
        # The exponent is limited to avoid an overflow; 2**60 exceeds any cap.
        limit_s = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 60))
        self._failures += 1
        return limit_s * self._draw()

    def reset(self) -> None:
        """Start again with short waits, after a success."""
        self._failures = 0


def pushback_s(value: str | bytes | None) -> float | None:
    """Parse the metadata ``grpc-retry-pushback-ms``: seconds to wait; None if it is missing.

    In gRPC a negative or unreadable value means "do not retry". Here it means the longest wait,
    since a device that never tries again would be lost.
    """
    if value is None:
        return None
    try:
        wait_s = int(value) / 1000
    except ValueError:
        return LARGEST_PUSHBACK_S
    return min(wait_s, LARGEST_PUSHBACK_S) if wait_s >= 0 else LARGEST_PUSHBACK_S
