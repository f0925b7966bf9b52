"""One stream of inference requests: responses are written as they become ready, in any order."""

from __future__ import annotations

import asyncio
from collections import deque

import grpc

from cloud.access.control import DRAINING, STREAM_TOO_OLD, AccessControl, Caller, Context
from cloud.rpc.service import InferenceService, StreamModel
from cloud.scheduling.batch import QueuedRequest
from shared.errors import UnavailableError

IN_FLIGHT = 64  # reading a stream pauses at this many unanswered requests


class StreamSession:
    """Answers the requests of one stream.

    Reading and writing are two tasks, so that gRPC wakes the event loop once for both. A request
    that is answered at once needs neither a task of its own nor a lock.
    """

    def __init__(self, service: InferenceService, context: Context, caller: Caller) -> None:
        self._service = service
        self._context = context
        self._caller = caller
        self._named = StreamModel()
        self._queued: dict[int, QueuedRequest] = {}
        self._ready: deque[bytes] = deque()
        self._unsent = 0  # responses that are ready or being written
        self._arrivals = 0
        self._leaving = False
        self._response_ready = asyncio.Event()
        self._progress = asyncio.Event()  # a request left the queue, or a response was sent

    async def run(self, access: AccessControl) -> None:
        """Serve until the client has closed its side and has all answers, or the server drains.

        While draining, or when the stream has reached its maximum age, the requests that have
        arrived are answered; then ``UnavailableError`` is raised.
        """
        reader = asyncio.create_task(self._read(), name="stream reader")
        writer = asyncio.create_task(self._write(), name="stream writer")
        drain = asyncio.create_task(access.draining.wait(), name="stream drain")
        answered = None
        try:
            await asyncio.wait(
                (reader, writer, drain),
                timeout=access.stream_age_s(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._leaving = not reader.done()  # later requests belong to another stream or server
            answered = asyncio.create_task(self._all_answered(), name="stream answered")
            await asyncio.wait((answered, writer), return_when=asyncio.FIRST_COMPLETED)
            for task in (writer, reader):
                if task.done():
                    task.result()
            if self._leaving:
                raise UnavailableError(DRAINING if drain.done() else STREAM_TOO_OLD)
        finally:
            started = [task for task in (reader, writer, drain, answered) if task is not None]
            for one in started:
                one.cancel()
            for queued in self._queued.values():
                self._service.withdraw(queued)
            await asyncio.gather(*started, return_exceptions=True)

    async def _read(self) -> None:
        read = self._context.read
        while (data := await read()) is not grpc.aio.EOF:
            if self._leaving:
                return
            self._submit(data)
            while self._unsent + len(self._queued) >= IN_FLIGHT:
                self._progress.clear()
                await self._progress.wait()

    def _submit(self, data: bytes) -> None:
        arrival = self._arrivals = self._arrivals + 1

        def on_done(response: bytes) -> None:
            self._queued.pop(arrival, None)
            self._progress.set()
            self._send(response)

        begun = self._service.submit_in_stream(data, self._caller, self._named, on_done)
        if isinstance(begun, bytes):
            self._send(begun)
        else:
            self._queued[arrival] = begun

    def _send(self, response: bytes) -> None:
        self._ready.append(response)
        self._unsent += 1
        self._response_ready.set()

    async def _write(self) -> None:
        write, ready = self._context.write, self._ready
        while True:
            while ready:
                await write(ready.popleft())
                self._unsent -= 1
                self._progress.set()
            self._response_ready.clear()
            await self._response_ready.wait()

    async def _all_answered(self) -> None:
        while self._queued or self._unsent:
            self._progress.clear()
            await self._progress.wait()
