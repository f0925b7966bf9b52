"""What access control remembers of connections."""

from __future__ import annotations

import math
import time

from cloud.access.clients import Limits
from cloud.access.control import FORGOTTEN_S, AccessControl


class Call:
    """A call over a connection of its own."""

    def __init__(self, port: int) -> None:
        self._peer = f"ipv4:127.0.0.1:{port}"

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


def test_connections_that_were_used_long_ago_are_forgotten() -> None:
    limits = Limits(streams=9, connections=9, calls=9, call_bytes=10**6)
    access = AccessControl(limits, None, None, math.inf)
    for port in range(100):
        with access.call(Call(port)):
            pass
    now_s = time.monotonic()
    assert access.forget_idle(now_s) == 100
    with access.call(Call(0)):
        pass
    assert access.forget_idle(now_s + FORGOTTEN_S) == 1  # the one that was used since
    assert access.forget_idle(now_s + 2 * FORGOTTEN_S) == 0
