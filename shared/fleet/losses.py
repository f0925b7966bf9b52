"""A connection that is lost again and again: probably another client has the same identifier."""

from __future__ import annotations

import time

LOST_TIMES, LOST_WITHIN_S = 3, 15.0


class Losses:
    """Notices a client whose connection is lost again and again.

    Not every broker says that another client has connected with the same identifier, and what it
    says is lost when it closes a connection on which something was under way.
    """

    def __init__(self) -> None:
        self._times_s: list[float] = []

    def repeated(self) -> bool:
        """Count a loss; return whether there were ``LOST_TIMES`` within ``LOST_WITHIN_S``."""
        now_s = time.monotonic()
        self._times_s = [at_s for at_s in self._times_s if at_s > now_s - LOST_WITHIN_S]
        self._times_s.append(now_s)
        return len(self._times_s) >= LOST_TIMES
