"""Whose turn it is among several servers, and how long to wait before the next attempt. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from device.transport.backoff import Backoff
from device.transport.link_state import LinkEvent
from device.transport.stream import Loss


class ServerRotation:
    """Takes turns among ``servers``, and remembers which of them refuse and why each failed.

    The other servers are tried at once; a whole round of failures is followed by a pause of
    ``backoff``. A server that asks to stay away for a while is left alone for that long.
    """

    def __init__(self, servers: Sequence[str], backoff: Backoff) -> None:
        self._servers = tuple(servers)
        self._backoff = backoff
        self._turn = 0
        self._failures = 0  # attempts since a stream last worked
        self._refusing: set[str] = set()
        self._not_before_s: dict[str, float] = {}
        self.errors: dict[str, str] = {}  # by server, why its last attempt failed

    @property
    def current(self) -> str:
        """The server whose turn it is."""
        return self._servers[self._turn % len(self._servers)]

    def worked(self, server: str) -> None:
        """Note that an answer came from ``server``."""
        self._failures = 0
        self._backoff.reset()
        self._refusing.discard(server)
        self.errors.clear()

    def ended(self, loss: Loss, worked: bool, now_s: float) -> LinkEvent:
        """Note how the attempt at the current server ended; the turn goes to the next one."""
        server = self.current
        self.errors[server] = str(loss.error)
        self._failures = 0 if worked else self._failures + 1
        if loss.final:
            self._refusing.add(server)
        elif worked:
            self._refusing.discard(server)
        if loss.wait_s is not None:
            self._not_before_s[server] = now_s + loss.wait_s
        self._turn += 1
        if len(self._refusing) == len(self._servers):
            return LinkEvent.ALL_REFUSED
        if worked:
            return LinkEvent.LOST
        if self._failures < len(self._servers):
            return LinkEvent.ATTEMPT_FAILED
        return LinkEvent.ALL_FAILED

    def pause_s(self, now_s: float) -> float:
        """Seconds to wait before the attempt at the current server."""
        asked_s = max(self._not_before_s.get(self.current, 0.0) - now_s, 0.0)
        if self._failures and self._failures % len(self._servers) == 0:
            return max(asked_s, self._backoff.next_s())
        return asked_s
