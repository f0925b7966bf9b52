"""Resources shared by the simulated devices of one process: pipelines and server connections.

Each device has its own stream; gRPC carries many streams over one connection.
"""

from __future__ import annotations

from typing import Any, cast

import grpc

from device.split.pipeline import ExitSettings, Pipeline
from device.transport.channel import Security, open_channel
from shared.model.bundle import Bundle

STREAMS_A_CHANNEL = 100  # usual limit of streams on an HTTP/2 connection


class Pipelines:
    """A cache of pipelines by model and exit settings, for devices on one event loop."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ExitSettings], Pipeline] = {}

    def __call__(self, bundle: Bundle, exits: ExitSettings) -> Pipeline:
        """Return the pipeline of ``bundle``, making it at the first call."""
        key = (bundle.metadata.version, exits)
        if key not in self._made:
            self._made[key] = Pipeline(bundle, exits)
        return self._made[key]


class Channels:
    """Connections, each shared by ``STREAMS_A_CHANNEL`` links and closed with the last of them."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, Security], list[_Shared]] = {}

    def __call__(self, address: str, security: Security) -> grpc.aio.Channel:
        """Return a channel to ``address``, which the caller can close independently of others."""
        group = self._open.setdefault((address, security), [])
        for shared in group:
            if shared.users < STREAMS_A_CHANNEL:
                break
        else:
            shared = _Shared(open_channel(address, security), group)
            group.append(shared)
        shared.users += 1
        return cast("grpc.aio.Channel", _Lease(shared))


class _Shared:
    """A channel, its number of users, and the list that it leaves when it has no users."""

    def __init__(self, channel: grpc.aio.Channel, group: list[_Shared]) -> None:
        self.channel = channel
        self.users = 0
        self._group = group

    async def release(self) -> None:
        self.users -= 1
        if not self.users:
            self._group.remove(self)
            await self.channel.close()


class _Lease:
    """A user's handle of a shared channel."""

    def __init__(self, shared: _Shared) -> None:
        self._shared: _Shared | None = shared
        self._channel = shared.channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def close(self) -> None:
        """Give up the handle; further calls do nothing."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.release()
