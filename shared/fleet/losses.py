"""Detect a connection that is lost repeatedly, probably to a client with the same identifier."""

from __future__ import annotations

import time

LOST_TIMES, LOST_WITHIN_S = 3, 15.0


class Losses:
    """Counts losses of a connection to detect repeated ones.

    This is needed because not every broker says that another client has connected with the same
    identifier, and the message can be lost when the connection is closed.
    """

    def __init__(self) -> None:
        self._times_s: list[float] = []

    def repeated(self) -> bool:
        """Count a loss; return whether ``LOST_TIMES`` have occurred within ``LOST_WITHIN_S``."""
        now_s = time.monotonic()
        self._times_s = [at_s for at_s in self._times_s if at_s > now_s - LOST_WITHIN_S]
        self._times_s.append(now_s)
        return len(self._times_s) >= LOST_TIMES
