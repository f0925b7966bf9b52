"""One stream of requests: read, answered at once or later, written in any order."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from cloud.answering import Answering
from cloud.batching import Item
from cloud.gate import GOING_AWAY, Context, Gate
from protos.split.v1 import split_pb2 as pb
from shared.errors import RequestError, UnavailableError
from shared.protocol import Response, request_from_message

IN_FLIGHT = 64  # requests of one stream that wait before its reading pauses


class StreamSession:
    """Answers one stream. A request that is answered at once costs no task and no queue."""

    def __init__(self, answering: Answering, context: Context, caller: str) -> None:
        self._answering = answering
        self._context = context
        self._caller = caller
        self._named = ("", "")
        self._waiting: dict[int, Item[Any, Any]] = {}
        self._ready: list[pb.InferResponse] = []
        self._arrivals = 0
        self._leaving = False
        self._moved = asyncio.Event()  # set whenever a request stops waiting
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    async def run(self, gate: Gate) -> None:
        """Serve until the client has sent everything and has its answers, or the server drains.

        Raises ``UnavailableError`` after the answers under way when the server drains.
        """
        reader = asyncio.create_task(self._read(), name="stream reader")
        drain = asyncio.create_task(gate.draining.wait(), name="stream drain")
        try:
            await asyncio.wait((reader, drain), return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                await reader
                await self._settle()
                return
            self._leaving = True  # what comes from now on is left to another server
            await self._settle()
            raise UnavailableError(GOING_AWAY)
        finally:
            for task in (reader, drain, self._writer):
                if task is not None:
                    task.cancel()
            for item in self._waiting.values():
                self._answering.give_up(item)
            await asyncio.gather(reader, drain, return_exceptions=True)

    async def _read(self) -> None:
        context = self._context
        while (message := await context.read()) is not grpc.aio.EOF:
            if self._leaving:
                return
            response = self._begin(message)
            if response is not None:
                async with self._writing:
                    await context.write(response)
            while len(self._waiting) >= IN_FLIGHT:
                self._moved.clear()
                await self._moved.wait()

    def _begin(self, message: pb.InferRequest) -> pb.InferResponse | None:
        """The response to ``message`` if there is one at once."""
        answering = self._answering
        try:
            request = request_from_message(message)
            # A message that names nothing means what was named last.
            if message.model or message.version:
                self._named = (message.model, message.version)
            elif self._named != ("", ""):
                request = request._replace(model=self._named[0], version=self._named[1])
            arrival = self._arrivals = self._arrivals + 1
            size = message.ByteSize()

            def later(outcome: Response | RequestError) -> None:
                self._waiting.pop(arrival, None)
                self._moved.set()
                self._push(answering.message(outcome, request.id, self._caller, size))

            begun = answering.begin(request, self._caller, None, later)
        except RequestError as error:
            return answering.message(error, message.id, self._caller, message.ByteSize())
        if isinstance(begun, Item):
            self._waiting[arrival] = begun
            return None
        return answering.message(begun, request.id, self._caller, size)

    def _push(self, message: pb.InferResponse) -> None:
        self._ready.append(message)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_ready(), name="stream writer")

    async def _write_ready(self) -> None:
        while self._ready:
            ready, self._ready = self._ready, []
            async with self._writing:
                for message in ready:
                    await self._context.write(message)

    async def _settle(self) -> None:
        """Wait until everything that came has been answered."""
        while self._waiting:
            self._moved.clear()
            await self._moved.wait()
        if self._writer is not None:
            await self._writer
        async with self._writing:  # what the reader may be writing
            pass
