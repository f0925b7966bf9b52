"""The recent requests of one stream for which the server asked for another look. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from cloud import native
from shared.errors import InvalidRequestError
from shared.protocol.looks import KEEP_MS

MOST = 64  # requests kept of one stream; the oldest are forgotten first


class LookMemory:
    """Detects invalid later looks; a typed front of ``native.StreamState``.

    It may forget: a later look carries everything that is needed to answer it, so it is answered
    even if its first look is not remembered. ``clock`` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state = native.StreamState()

    def asked(self, request_id: int, version: str) -> None:
        """Record that the response to ``request_id`` asked for another look."""
        self._state.asked(self._clock(), request_id, version, KEEP_MS / 1000)

    def looked(self, request_id: int, version: str) -> bool:
        """Record that a later look is being answered; return whether it was asked for here.

        Raises ``InvalidRequestError`` if it has been answered already, or if its first look was at
        another version of the model.
        """
        found, first_version = self._state.looked(self._clock(), request_id, version)
        if found is native.LaterLook.TWICE:
            raise InvalidRequestError(f"looks: request {request_id} has had its second look")
        if found is native.LaterLook.OTHER_VERSION:
            raise InvalidRequestError(
                f"looks: the first look of request {request_id} was of version "
                f"{first_version[:16]}, this one is of {version[:16]}"
            )
        return found is native.LaterLook.KNOWN
