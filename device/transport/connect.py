"""Connect a channel once, and find the cause if that fails."""

from __future__ import annotations

import asyncio

import grpc

from device.transport.channel import Security
from shared.errors import LinkError


class ConnectError(LinkError):
    """A server cannot be used; ``final`` if another attempt soon would fail too."""

    def __init__(self, message: str, final: bool) -> None:
        super().__init__(message)
        self.final = final


async def connect(
    channel: grpc.aio.Channel, address: str, security: Security, limit_s: float
) -> None:
    """Wait until ``channel`` is connected; ``ConnectError`` at a failure or after ``limit_s``.

    Unlike ``channel_ready`` this does not retry, as the link decides about that. The error names
    the cause, which is diagnosed after the failure.
    """
    try:
        async with asyncio.timeout(limit_s):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    break
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
            else:
                return
        text = "does not accept connections"
    except TimeoutError:
        text = f"no connection within {limit_s:g} s"
    from device.transport.diagnosis import diagnose  # imported here: only needed after failures

    cause = await diagnose(address, security)
    if cause is None:
        raise ConnectError(f"server {address}: {text}", final=False)
    raise ConnectError(f"server {address}: {cause.text}", cause.final)
