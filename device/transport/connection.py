"""One open stream at a time over several servers, reopened whenever it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import grpc

from device.transport.backoff import Backoff
from device.transport.channel import Security
from device.transport.connect import ConnectError, connect
from device.transport.link_state import LinkEvent, LinkState, next_state
from device.transport.rotation import ServerRotation
from device.transport.stream import Loss, Stream
from shared.errors import TaperError

CONNECT_S = 5.0  # the longest that one attempt takes
CANCEL_EVERY_S = 0.1
LISTEN_S = 0.2  # a stream without answers that ends within this time did not work
Opener = Callable[[str, Security], grpc.aio.Channel]
_log = logging.getLogger(__name__)


class Connection:
    """Opens streams, one after the other, until it is closed. Use as ``async with``.

    ``stream`` is the open one or None, ``state`` what can be expected of the next.
    """

    def __init__(
        self, servers: Sequence[str], security: Security, backoff: Backoff, opener: Opener
    ) -> None:
        self._security = security
        self._opener = opener
        self._servers = tuple(servers)
        self._rotation = ServerRotation(servers, backoff)
        self._changed = asyncio.Event()  # of the state; replaced at every change
        self.state = LinkState.CONNECTING
        self.stream: Stream | None = None
        self.last_error: TaperError | None = None
        self.opened = 0

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep(), name="link keeper")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A call that ends in the same moment turns the cancellation into its own error, after which
        # the keeper would go on.
        while not self._keeper.done():
            self._keeper.cancel()
            await asyncio.wait((self._keeper,), timeout=CANCEL_EVERY_S)
        self._move(LinkEvent.CLOSED)

    @property
    def server(self) -> str:
        """The server in use, or the first."""
        return self._servers[0] if self.stream is None else self.stream.address

    @property
    def causes(self) -> str:
        """Why no server can be used, server by server; empty before the first failure."""
        errors = self._rotation.errors
        return "; ".join(errors[server] for server in self._servers if server in errors)

    async def change(self) -> None:
        """Wait for the next change of the state."""
        await self._changed.wait()

    async def proven(self) -> None:
        """Wait until the stream has lasted long enough to work, or has ended."""
        stream = self.stream
        if stream is not None and not stream.answers:
            with suppress(TimeoutError):
                async with asyncio.timeout(LISTEN_S):
                    await self.change()

    def answered(self, stream: Stream) -> None:
        """Note that an answer came over ``stream``: its server works."""
        self._rotation.worked(stream.address)

    def drop(self, stream: Stream, loss: Loss) -> None:
        """Stop using ``stream``, which a request found broken; the next one is opened."""
        if self.stream is stream:
            self.stream = None
            self.last_error = loss.error
            stream.abort()
            self._move(LinkEvent.DROPPED)

    async def _keep(self) -> None:
        """Open a stream to one server after the other."""
        loop = asyncio.get_running_loop()
        while True:
            loss, worked = await self._serve(self._rotation.current)
            self.last_error = loss.error
            if worked:
                _log.info("%s; connecting again", loss.error)
            self._move(self._rotation.ended(loss, worked, loop.time()))
            await asyncio.sleep(self._rotation.pause_s(loop.time()))

    async def _serve(self, address: str) -> tuple[Loss, bool]:
        """Connect to ``address`` and read its stream to its end; the loss, whether it worked."""
        channel = self._opener(address, self._security)
        try:
            await connect(channel, address, self._security, CONNECT_S)
        except ConnectError as error:
            await channel.close()
            return Loss(error, final=error.final), False
        except BaseException:
            await channel.close()
            raise
        loop = asyncio.get_running_loop()
        stream = Stream(channel, address, self._security)
        started_s = loop.time()
        self.stream = stream
        self.opened += 1
        self._move(LinkEvent.OPENED)
        try:
            loss = await stream.read()
        finally:
            if self.stream is stream:
                self.stream = None
            await stream.close()
        lasted_s = loop.time() - started_s
        return loss, bool(stream.answers) or (lasted_s > LISTEN_S and not loss.final)

    def _move(self, event: LinkEvent) -> None:
        self.state = next_state(self.state, event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
