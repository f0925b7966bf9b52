"""Present calls of the native front to handlers as if they were calls of grpc.aio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc

if TYPE_CHECKING:
    from cloud.native._front import Event, StreamCall, UnaryCall

Trailer = Sequence[tuple[str, str]]
Convert = Callable[[Any], Any]


class Kind(IntEnum):
    """Kinds of events that the native front reports; the values are those of event_queue.hpp."""

    CALL = 0
    MESSAGE = 1
    READ_END = 2
    WRITTEN = 3
    ANSWERED = 4
    ENDED = 5
    REFUSED = 6


class NativeContext:
    """The parts of ``grpc.aio.ServicerContext`` that handlers use, for a call of the native front.

    ``first`` is the request of a unary call, which the front has read already. ``parse`` and
    ``serialise`` convert between bytes and messages; by default they do nothing. If ``listener``
    is set, it receives all events of the call instead of ``read`` and ``write``.
    """

    def __init__(self, call: UnaryCall | StreamCall, first: bytes) -> None:
        self.call = call
        self.parse: Convert = _same
        self.serialise: Convert = _same
        self.listener: Callable[[Event], object] | None = None
        self.method, self._peer, self._metadata, remaining_s = call.info
        self._first = first
        self._end_s = None if remaining_s is None else time.monotonic() + remaining_s
        self._reading: asyncio.Future[bytes | None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._writers = asyncio.Lock()

    def peer(self) -> str:
        """The other end of the connection as gRPC names it."""
        return self._peer

    def invocation_metadata(self) -> Any:
        """The call's metadata as pairs of names and values."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without a deadline."""
        return None if self._end_s is None else max(self._end_s - time.monotonic(), 0.0)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Trailer = ()
    ) -> NoReturn:
        """End the call with a status."""
        self.finish(code, details, trailing_metadata)
        raise grpc.aio.AbortError(details)

    def finish(self, code: grpc.StatusCode, details: str = "", trailer: Trailer = ()) -> None:
        """End the call with a status; does nothing if it has ended."""
        number: int = code.value[0]
        self.call.finish(number, details, list(trailer))

    def respond(self, message: Any) -> None:
        """End the call with its only response."""
        self.call.respond(self.serialise(message))

    async def read(self) -> Any:
        """Wait for the next message; returns ``grpc.aio.EOF`` after the last one."""
        self._reading = asyncio.get_running_loop().create_future()
        self.stream.read()
        data = await self._reading
        return grpc.aio.EOF if data is None else self.parse(data)

    async def messages(self) -> AsyncIterator[Any]:
        """Yield all messages of the stream."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def only_message(self) -> Any:
        """Return the request of a method that takes one; ``grpc.aio.EOF`` if there is none."""
        return await self.read() if hasattr(self.call, "read") else self.parse(self._first)

    async def write(self, message: Any) -> None:
        """Write a message; returns when the next one can be written."""
        async with self._writers:
            self._writing = asyncio.get_running_loop().create_future()
            self.stream.write(self.serialise(message))
            await self._writing

    @property
    def stream(self) -> StreamCall:
        """The call as a stream; only valid for methods with streams."""
        return cast("StreamCall", self.call)

    def take(self, event: Event) -> None:
        """Pass an event on to the listener, or to the coroutine that waits for it."""
        kind, _, data, _, _ = event
        if self.listener is not None:
            self.listener(event)
        elif kind == Kind.WRITTEN:
            _resolve(self._writing, None)
        elif kind in (Kind.MESSAGE, Kind.READ_END):
            _resolve(self._reading, data if kind == Kind.MESSAGE else None)


def _resolve(future: asyncio.Future[Any] | None, value: Any) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _same(value: Any) -> Any:
    return value
