"""The requests of one stream at which the server asked for another look, for a moment. No I/O."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from shared.errors import InvalidRequestError
from shared.protocol.looks import KEEP_MS

MOST = 64  # requests of one stream; the oldest are forgotten first


class LookMemory:
    """Knows later looks that cannot be right.

    Nothing depends on what it has forgotten: a later look comes whole. ``clock`` is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # by id: until when, the model's version, whether the later look was answered
        self._asked: OrderedDict[int, tuple[float, str, bool]] = OrderedDict()

    def asked(self, request_id: int, version: str) -> None:
        """Remember that another look was asked for."""
        self._asked.pop(request_id, None)
        self._asked[request_id] = (self._clock() + KEEP_MS / 1000, version, False)
        if len(self._asked) > MOST:
            self._asked.popitem(last=False)

    def looked(self, request_id: int, version: str) -> bool:
        """Take note that a later look is answered; whether it was asked for here.

        ``InvalidRequestError`` for one that comes twice or is of another version of the model.
        """
        until_s, first_version, answered = self._asked.get(request_id, (0.0, "", False))
        if until_s <= self._clock():
            self._asked.pop(request_id, None)
            return False
        if answered:
            raise InvalidRequestError(f"looks: request {request_id} has had its second look")
        if version != first_version:
            raise InvalidRequestError(
                f"looks: the first look of request {request_id} was of version "
                f"{first_version[:16]}, this one is of {version[:16]}"
            )
        self._asked[request_id] = (until_s, version, True)
        return True
