"""Keep one stream open to one of several servers, and reopen it when it breaks."""

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

CONNECT_S = 5.0  # time limit of one attempt
CANCEL_EVERY_S = 0.1
PROVEN_S = 1.0  # limit for finding out, at the end, whether a server refuses us
LISTEN_S = 0.2  # a stream that ends earlier without an answer counts as not working
Opener = Callable[[str, Security], grpc.aio.Channel]
_log = logging.getLogger(__name__)


class Connection:
    """Opens one stream after the other until it is closed. Use as ``async with``.

    ``stream`` is the open stream or None; ``state`` tells whether another can be expected.
    """

    def __init__(
        self, servers: Sequence[str], security: Security, backoff: Backoff, opener: Opener
    ) -> None:
        self._security = security
        self._opener = opener
        self._servers = tuple(servers)
        self._rotation = ServerRotation(servers, backoff)
        self._changed = asyncio.Event()  # set at a change of the state, then replaced
        self.state = LinkState.CONNECTING
        self.stream: Stream | None = None
        self.last_error: TaperError | None = None
        self._unknown = False  # whether the reason of the last loss is unknown
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
        # Repeated, since a gRPC call that ends at the same moment replaces the cancellation by its
        # own error, after which the keeper would continue.
        while not self._keeper.done():
            self._keeper.cancel()
            await asyncio.wait((self._keeper,), timeout=CANCEL_EVERY_S)
        self._move(LinkEvent.CLOSED)

    @property
    def server(self) -> str:
        """The server in use, or the first one."""
        return self._servers[0] if self.stream is None else self.stream.address

    @property
    def causes(self) -> str:
        """The last error of every server as text; empty before the first failure."""
        errors = self._rotation.errors
        return "; ".join(errors[server] for server in self._servers if server in errors)

    async def change(self) -> None:
        """Wait until the state changes."""
        await self._changed.wait()

    async def proven(self) -> None:
        """Wait until the stream counts as working or every server has been tried.

        A stream that has just ended is neither: whether its server refuses us is known only after
        it has been closed, and sometimes only by the next attempt.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PROVEN_S):
                while True:
                    tried = self.state in (LinkState.AWAY, LinkState.REFUSED)
                    if tried and not self._unknown:
                        return
                    if self.stream is not None and self.stream.answers:
                        return
                    async with asyncio.timeout(None if self.stream is None else LISTEN_S):
                        await self.change()

    def answered(self, stream: Stream) -> None:
        """Record that an answer arrived on ``stream``, so its server works."""
        self._rotation.record_answer(stream.address)

    def drop(self, stream: Stream, loss: Loss) -> None:
        """Stop using ``stream``, which a request found broken, and open the next one."""
        if self.stream is stream:
            self.stream = None
            self._record(loss)
            stream.abort()
            self._move(LinkEvent.DROPPED)

    async def _keep(self) -> None:
        """Open a stream to one server after the other."""
        loop = asyncio.get_running_loop()
        while True:
            loss, worked = await self._serve(self._rotation.current)
            self._record(loss)
            if worked:
                _log.info("%s; connecting again", loss.error)
            self._move(self._rotation.ended(loss, worked, loop.time()))
            await asyncio.sleep(self._rotation.pause_s(loop.time()))

    async def _serve(self, address: str) -> tuple[Loss, bool]:
        """Connect to ``address`` and read its stream until it ends.

        Returns why it ended, and whether it worked before that.
        """
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

    def _record(self, loss: Loss) -> None:
        """Keep the error of ``loss``, unless it is unknown and an earlier one is known."""
        self._unknown = loss.unknown
        if self.last_error is None or not loss.unknown:
            self.last_error = loss.error

    def _move(self, event: LinkEvent) -> None:
        self.state = next_state(self.state, event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
