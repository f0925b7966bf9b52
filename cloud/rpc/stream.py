"""One stream of requests: read, answered at once or later, written in any order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import grpc

from cloud.access.gate import GOING_AWAY, Caller, Context, Gate
from cloud.rpc.answering import Answering
from cloud.scheduling.batching import Item
from protos.split.v1 import split_pb2 as pb
from shared.errors import RequestError, UnavailableError
from shared.protocol.messages import Response, request_from_message

IN_FLIGHT = 64  # requests of one stream without a sent answer before its reading pauses


class StreamSession:
    """Answers one stream. A request that is answered at once costs no task and no lock.

    Reading and writing go on at the same time: gRPC then wakes the event loop once for both.
    """

    def __init__(self, answering: Answering, context: Context, caller: Caller) -> None:
        self._answering = answering
        self._context = context
        self._caller = caller
        self._named = ("", "")
        self._waiting: dict[int, Item[Any, Any]] = {}
        self._ready: deque[pb.InferResponse] = deque()
        self._unsent = 0  # ready, or being written
        self._arrivals = 0
        self._leaving = False
        self._pushed = asyncio.Event()  # something became ready
        self._moved = asyncio.Event()  # a request stopped waiting, or its answer was sent

    async def run(self, gate: Gate) -> None:
        """Serve until the client has sent everything and has its answers, or the server drains.

        Raises ``UnavailableError`` after the answers under way when the server drains.
        """
        reader = asyncio.create_task(self._read(), name="stream reader")
        writer = asyncio.create_task(self._write(), name="stream writer")
        drain = asyncio.create_task(gate.draining.wait(), name="stream drain")
        settled = None
        try:
            await asyncio.wait((reader, writer, drain), return_when=asyncio.FIRST_COMPLETED)
            self._leaving = not reader.done()  # what comes from now on is left to another server
            settled = asyncio.create_task(self._settle(), name="stream settled")
            await asyncio.wait((settled, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in (writer, reader):
                if task.done():
                    task.result()
            if self._leaving:
                raise UnavailableError(GOING_AWAY)
        finally:
            started = [task for task in (reader, writer, drain, settled) if task is not None]
            for one in started:
                one.cancel()
            for item in self._waiting.values():
                self._answering.give_up(item)
            await asyncio.gather(*started, return_exceptions=True)

    async def _read(self) -> None:
        read = self._context.read
        while (message := await read()) is not grpc.aio.EOF:
            if self._leaving:
                return
            response = self._begin(message)
            if response is not None:
                self._push(response)
            while self._unsent + len(self._waiting) >= IN_FLIGHT:
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
        self._unsent += 1
        self._pushed.set()

    async def _write(self) -> None:
        write, ready = self._context.write, self._ready
        while True:
            while ready:
                await write(ready.popleft())
                self._unsent -= 1
                self._moved.set()
            self._pushed.clear()
            await self._pushed.wait()

    async def _settle(self) -> None:
        """Wait until everything that came has been answered."""
        while self._waiting or self._unsent:
            self._moved.clear()
            await self._moved.wait()
