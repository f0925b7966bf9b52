"""The link to the cloud: one open stream, answers matched to requests by their id."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Self, cast

import grpc

from protos.split.v1 import split_pb2_grpc
from protos.split.v1.split_pb2 import InferResponse
from shared.codec import Frame
from shared.errors import LinkError, RequestError, UsageError
from shared.protocol import (
    DEFAULT_MAX_MESSAGE_BYTES,
    Request,
    Response,
    request_to_message,
    response_from_message,
)

VERSION_DIGITS = 16  # of the 64 that name a model's version: enough, and a fourth of the bytes
ADDRESS = re.compile(r"(?P<host>[^:\s]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})")


def check_address(address: str, flag: str = "--server") -> str:
    """Return ``address`` if it is HOST:PORT, else raise ``UsageError`` naming ``flag``."""
    match = ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise UsageError(f"{flag}: {address!r} is not allowed; give HOST:PORT, e.g. cloud:50051")
    return address


class Link:
    """A connection to one server with one inference stream for one model. Use as ``async with``.

    ``wait_s`` is how long the server may take to come up, ``timeout_s`` how long one answer may
    take. All failures are ``LinkError``; a refusal by the server is ``RequestError``.
    """

    def __init__(
        self,
        address: str,
        model: str = "",
        version: str = "",
        wait_s: float = 10.0,
        timeout_s: float = 10.0,
    ) -> None:
        self._address = check_address(address)
        self._model = model
        self._version = version[:VERSION_DIGITS]
        self._named = False
        self._next_id = 0
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._pending: dict[int, asyncio.Future[Response]] = {}
        self._writing = asyncio.Lock()
        self._lost: LinkError | None = None

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(
            self._address,
            options=[
                ("grpc.max_receive_message_length", DEFAULT_MAX_MESSAGE_BYTES),
                # A dead peer behind a silent network is noticed within half a minute.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                # A server that comes up late is found soon, not after a long back-off.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1_000),
            ],
        )
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._wait_s)
        except TimeoutError:
            await self._channel.close()
            raise LinkError(
                f"--server: {self._address} could not be reached within {self._wait_s:g} s"
            ) from None
        self._call = split_pb2_grpc.SplitInferenceStub(self._channel).InferStream()
        self._reader = asyncio.create_task(self._read(), name="link reader")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.cancel()
        self._call.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._channel.close()

    async def infer(self, frame: Frame, top_k: int = 0) -> Response:
        """Send one frame and wait for its answer. Safe to call many times at once."""
        if self._lost is not None:
            raise self._lost
        self._next_id += 1
        request_id = self._next_id
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = answer
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._write(request_id, frame, top_k)
                response = await answer
        except TimeoutError:
            raise LinkError(
                f"server {self._address}: no answer within {self._timeout_s:g} s"
            ) from None
        finally:
            self._pending.pop(request_id, None)
        if response.failure is not None:
            raise RequestError(f"server {self._address}: {response.failure.message}")
        return response

    async def _write(self, request_id: int, frame: Frame, top_k: int) -> None:
        async with self._writing:
            # Only the first message names the model: the server remembers it for the stream.
            model, version = ("", "") if self._named else (self._model, self._version)
            request = Request(request_id, model, version, frame, top_k=top_k)
            try:
                await self._call.write(request_to_message(request))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                raise self._lost or self._lost_by(error) from None
            self._named = True

    async def _read(self) -> None:
        """Hand every response to whoever waits for it, until the stream ends."""
        lost = LinkError(f"server {self._address}: ended the stream")
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                response = response_from_message(cast("InferResponse", message))
                waiting = self._pending.get(response.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(response)
        except grpc.aio.AioRpcError as error:
            lost = self._lost_by(error)
        self._lost = lost
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(lost)

    def _lost_by(self, error: BaseException) -> LinkError:
        reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        return LinkError(f"server {self._address}: connection lost ({reason})")
