"""Connections that a front has cut: counted, and logged now and then, however many there are."""

from __future__ import annotations

import math

import structlog

LOG_S = 5.0  # at most one line in so many seconds
_log = structlog.stdlib.get_logger(__name__)


class CutConnections:
    """Says how many connections were cut since its last line, and who was the last and why."""

    def __init__(self) -> None:
        self._count = 0
        self._peer = self._fault = ""
        self._logged_s = -math.inf

    def note(self, count: int, peer: str, fault: str) -> None:
        """Take note of ``count`` connections; the last one's peer and fault."""
        if count:
            self._count += count
            self._peer, self._fault = peer, fault

    def log(self, now_s: float) -> None:
        """Write a line if there is something to say and the last line is old enough."""
        if self._count and now_s - self._logged_s >= LOG_S:
            _log.warning(
                "connections were cut", count=self._count, peer=self._peer, fault=self._fault
            )
            self._count, self._logged_s = 0, now_s
