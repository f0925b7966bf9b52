"""Choose the next of several servers, and the pause before the next attempt. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from device.transport.backoff import Backoff
from device.transport.link_state import LinkEvent
from device.transport.stream import Loss


class ServerRotation:
    """Takes turns among ``servers``, and records which of them refuse and why each failed.

    After a failure the next server is tried at once; after a whole round of failures there is a
    pause by ``backoff``. A server that asks clients to stay away for a while is not tried in that
    time.
    """

    def __init__(self, servers: Sequence[str], backoff: Backoff) -> None:
        self._servers = tuple(servers)
        self._backoff = backoff
        self._turn = 0
        self._failures = 0  # failed attempts since a stream last worked
        self._refusing: set[str] = set()
        self._not_before_s: dict[str, float] = {}
        self.errors: dict[str, str] = {}  # error of the last attempt, by server

    @property
    def current(self) -> str:
        """The server whose turn it is."""
        return self._servers[self._turn % len(self._servers)]

    def record_answer(self, server: str) -> None:
        """Record that an answer arrived from ``server``."""
        self._failures = 0
        self._backoff.reset()
        self._refusing.discard(server)
        self.errors.clear()

    def ended(self, loss: Loss, worked: bool, now_s: float) -> LinkEvent:
        """Record the end of the attempt at the current server and move on to the next.

        ``worked`` tells whether the stream had worked. Returns the event for the link's state.
        """
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
        """Return the seconds to wait before trying the current server."""
        asked_s = max(self._not_before_s.get(self.current, 0.0) - now_s, 0.0)
        if self._failures and self._failures % len(self._servers) == 0:
            return max(asked_s, self._backoff.next_s())
        return asked_s
