"""The requests of one stream at which the server asked for another look, for a moment. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from cloud import native
from shared.errors import InvalidRequestError
from shared.protocol.looks import KEEP_MS

MOST = 64  # requests of one stream; the oldest are forgotten first


class LookMemory:
    """Knows later looks that cannot be right; ``native.StreamState`` remembers them.

    Nothing depends on what it has forgotten: a later look comes whole. ``clock`` is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state = native.StreamState()

    def asked(self, request_id: int, version: str) -> None:
        """Remember that another look was asked for."""
        self._state.asked(self._clock(), request_id, version, KEEP_MS / 1000)

    def looked(self, request_id: int, version: str) -> bool:
        """Take note that a later look is answered; whether it was asked for here.

        ``InvalidRequestError`` for one that comes twice or is of another version of the model.
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
