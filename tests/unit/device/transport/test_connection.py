"""A connection says whether its server works."""

from __future__ import annotations

import asyncio

from device.transport.backoff import Backoff
from device.transport.channel import Security, open_channel
from device.transport.connection import Connection
from device.transport.link_state import LinkEvent, LinkState


async def test_a_stream_that_has_just_ended_is_waited_for_until_its_end_is_known() -> None:
    connection = Connection(["localhost:1"], Security(), Backoff(0.05, 1.0), open_channel)
    connection.state = LinkState.UP  # and no stream: it has ended, and is being closed
    loop = asyncio.get_running_loop()
    loop.call_later(0.02, connection._move, LinkEvent.ALL_REFUSED)
    await connection.proven()
    assert connection.state is LinkState.REFUSED
