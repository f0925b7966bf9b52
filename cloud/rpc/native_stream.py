"""One stream of inference requests that the native front reads and writes in C++."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cloud.access.control import DRAINING, STREAM_TOO_OLD, AccessControl, Caller
from cloud.rpc.native_call import Kind, NativeContext
from cloud.rpc.service import InferenceService, StreamModel
from cloud.scheduling.batch import QueuedRequest
from shared.errors import UnavailableError

if TYPE_CHECKING:
    from cloud.native._front import Event


class NativeStreamSession:
    """Answers the requests of a stream that the front leaves to Python; like ``StreamSession``."""

    def __init__(self, service: InferenceService, context: NativeContext, caller: Caller) -> None:
        self._service = service
        self._call = context.stream
        self._caller = caller
        self._named = StreamModel()
        self._queued: dict[int, QueuedRequest] = {}
        self._arrivals = 0
        self._read_end = asyncio.Event()
        self._answered = asyncio.Event()
        context.listener = self._take

    async def run(self, access: AccessControl) -> None:
        """Serve until the client has closed its side and has all answers, or the server drains.

        While draining, or when the stream has reached its maximum age, the requests that have
        arrived are answered; then ``UnavailableError`` is raised.
        """
        reading = asyncio.create_task(self._read_end.wait(), name="stream end")
        drain = asyncio.create_task(access.draining.wait(), name="stream drain")
        try:
            self._call.attach(self._caller.name)
            await asyncio.wait(
                (reading, drain),
                timeout=access.stream_age_s(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            leaving = not reading.done()  # requests after this belong to another stream or server
            if leaving:
                self._call.leave()
            await self._answered.wait()
            if leaving:
                raise UnavailableError(DRAINING if drain.done() else STREAM_TOO_OLD)
        finally:
            for task in (reading, drain):
                task.cancel()
            for queued in self._queued.values():
                self._service.withdraw(queued)
            await asyncio.gather(reading, drain, return_exceptions=True)

    def _take(self, event: Event) -> None:
        kind, _, data, _, named = event
        if kind == Kind.MESSAGE:
            self._submit(data, named)
        elif kind == Kind.READ_END:
            self._read_end.set()
        elif kind == Kind.ANSWERED:
            self._answered.set()

    def _submit(self, data: bytes, named: tuple[str, str] | None) -> None:
        arrival = self._arrivals = self._arrivals + 1
        if named is not None:  # model and version of a message that was answered in C++
            self._named.model, self._named.version = named

        def on_done(response: bytes) -> None:
            if self._queued.pop(arrival, None) is not None:
                self._call.answer(response)

        begun = self._service.submit_in_stream(data, self._caller, self._named, on_done)
        self._call.begun(self._named.model, self._named.version)
        if isinstance(begun, bytes):
            self._call.answer(begun)
        else:
            self._queued[arrival] = begun
