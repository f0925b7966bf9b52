"""The link to the cloud: sends requests with a deadline over a connection that is reopened.

Requests are idempotent, so they may be repeated on another stream: they have the same id and bytes,
the server keeps no state of them, and only one answer is returned.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import grpc

from device.transport.backoff import Backoff
from device.transport.channel import Security, check_addresses, open_channel
from device.transport.connection import Connection, Opener
from device.transport.link_state import LinkState
from device.transport.stream import Stream, StreamLostError
from shared.errors import (
    InvalidRequestError,
    LateError,
    LinkError,
    OverloadedError,
    RequestError,
    ServerFaultError,
    TaperError,
    UnauthenticatedError,
    UnavailableError,
    UnknownModelError,
    VersionMismatchError,
)
from shared.model.identity import ModelIdentity
from shared.protocol.codec import Frame
from shared.protocol.messages import Failure, Hints, Looks, Request, Response

REFUSALS: dict[int, type[RequestError]] = {
    grpc.StatusCode[error.grpc_status].value[0]: error
    for error in (
        *(InvalidRequestError, UnknownModelError, VersionMismatchError, OverloadedError),
        *(LateError, UnavailableError, ServerFaultError),
    )
}
TRY_AGAIN = (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], grpc.StatusCode.UNAVAILABLE.value[0])
SOON_S = 2.0
SMOOTHING = 0.1  # weight of the newest round trip in the mean
_log = logging.getLogger(__name__)


class Ticket(NamedTuple):
    """Id and deadline (on the event loop's clock) that the looks at a sample share."""

    id: int
    deadline_s: float


@dataclass(frozen=True)
class LinkSettings:
    """The servers, and time limits.

    servers    HOST:PORT, tried in this order
    wait_s     time limit of the first connection
    timeout_s  time limit of one answer, including repeated attempts
    patient    start even if no server can be reached
    """

    servers: tuple[str, ...]
    security: Security = field(default_factory=Security)
    wait_s: float = 10.0
    timeout_s: float = 10.0
    patient: bool = False

    def __post_init__(self) -> None:
        check_addresses(self.servers, self.security)


class Link:
    """Sends frames to the first server that can be reached. Use as ``async with``.

    Failures raise ``LinkError``, refusals by the server ``RequestError``. ``identity`` is the model
    for requests that name none; ``opener`` makes channels. ``round_trip_s`` is the smoothed time
    from sending a request to its answer, without failed attempts and pauses. ``hints`` are those of
    the last response.
    """

    def __init__(
        self,
        settings: LinkSettings,
        identity: ModelIdentity | None = None,
        backoff: Backoff | None = None,
        opener: Opener = open_channel,
    ) -> None:
        self._settings = settings
        self._identity = ModelIdentity() if identity is None else identity
        self._connection = Connection(
            settings.servers, settings.security, backoff or Backoff(), opener
        )
        self._next_id = 0
        self.hints: Hints | None = None
        self.round_trip_s: float | None = None

    @property
    def state(self) -> LinkState:
        """The state of the link."""
        return self._connection.state

    @property
    def away(self) -> bool:
        """Whether there is no stream and every server has been tried without success."""
        return self._connection.state in (LinkState.AWAY, LinkState.REFUSED)

    async def refused_token(self) -> TaperError | None:
        """Return the error if all servers refuse us, the last one because of the token; else None.

        With a token this waits for a moment, until the server has answered or the stream has
        lasted.
        """
        if self._settings.security.token is not None:
            await self._connection.proven()
        last = self._connection.last_error
        refused = self.state is LinkState.REFUSED and isinstance(last, UnauthenticatedError)
        return last if refused else None

    @property
    def server(self) -> str:
        """The server in use, or the first one."""
        return self._connection.server

    @property
    def connections(self) -> int:
        """Number of streams opened so far."""
        return self._connection.opened

    async def __aenter__(self) -> Self:
        settings = self._settings
        # So that unreadable certificates raise here, not in a background task.
        await open_channel(settings.servers[0], settings.security).close()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._connection)
            await self._first_stream()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def ticket(self) -> Ticket:
        """Return a new id with a deadline ``timeout_s`` from now."""
        self._next_id += 1
        return Ticket(self._next_id, asyncio.get_running_loop().time() + self._settings.timeout_s)

    async def infer(
        self,
        frame: Frame,
        top_k: int = 0,
        identity: ModelIdentity | None = None,
        stop_when_away: bool = False,
        ticket: Ticket | None = None,
        looks: Looks | None = None,
    ) -> Response:
        """Send one frame and wait for its response. May be called concurrently.

        Retries within the time limit if the stream breaks or the server is temporarily unable; with
        ``stop_when_away`` it fails as soon as no server can be reached. ``top_k`` is the number of
        candidates to request. Consecutive looks at a sample share a ``ticket``.
        """
        name = self._identity if identity is None else identity
        number, deadline_s = self.ticket() if ticket is None else ticket
        request = Request(number, name.model, name.version, frame, None, top_k, looks)
        stream = self._connection.stream
        response = None
        if stream is not None:  # fast path, as this is part of every sample's latency
            try:
                response = await self._try(stream, request, deadline_s)
            except TimeoutError:
                raise self._too_late() from None
        if response is None or response.failure is not None:
            response = await self._persist(request, response, deadline_s, stop_when_away)
        self.hints = response.hints
        return response

    async def _first_stream(self) -> None:
        """Wait until a stream is open; a patient link stops once every server has been tried."""
        settings, connection = self._settings, self._connection
        # No log line needed, as the error will name the cause soon.
        said = settings.wait_s <= SOON_S
        try:
            async with asyncio.timeout(settings.wait_s):
                while connection.state is not LinkState.UP:
                    if settings.patient and self.away:
                        return
                    if connection.state is LinkState.REFUSED:
                        raise self._refused()
                    if self.away and not said:
                        _log.warning("%s; trying for %g s", connection.causes, settings.wait_s)
                        said = True
                    await connection.change()
        except TimeoutError:
            if not settings.patient:
                listed = ", ".join(settings.servers)
                text = f"--server: {listed} could not be reached within {settings.wait_s:g} s"
                causes = f" ({connection.causes})" if connection.causes else ""
                raise LinkError(text + causes) from None

    async def _try(self, stream: Stream, request: Request, deadline_s: float) -> Response | None:
        """Return the answer on ``stream``, None if the stream ends; ``TimeoutError`` when
        time is up.
        """
        loop = asyncio.get_running_loop()
        before, started_s = stream.answers, loop.time()
        try:
            response = await stream.exchange(request, deadline_s)
        except StreamLostError as error:
            self._connection.drop(stream, error.loss)
            return None
        except TimeoutError:
            if stream.answers == before:
                # Nothing has arrived since this request was sent, so the network may be dead.
                stream.abort()
            raise
        self._connection.answered(stream)
        if response.failure is None:
            took_s = loop.time() - started_s
            mean_s = self.round_trip_s
            self.round_trip_s = took_s if mean_s is None else mean_s + SMOOTHING * (took_s - mean_s)
        return response

    async def _persist(
        self,
        request: Request,
        response: Response | None,
        deadline_s: float,
        stop_when_away: bool,
    ) -> Response:
        """Retry until there is an answer, the server refuses permanently, or time is up."""
        busy = Backoff(0.05, 2.0)
        loop = asyncio.get_running_loop()
        connection = self._connection
        while response is None or response.failure is not None:
            failure = None if response is None else response.failure
            if failure is not None:
                wait_s = max(failure.retry_after_ms / 1000, busy.next_s())
                if failure.code not in TRY_AGAIN or loop.time() + wait_s >= deadline_s:
                    raise self._refusal(failure)
                await asyncio.sleep(wait_s)
            stream = connection.stream
            if stream is not None:
                try:
                    response = await self._try(stream, request, deadline_s)
                except TimeoutError:
                    # A server that said why, and then was too slow to say it again, has said why.
                    raise self._too_late() if failure is None else self._refusal(failure) from None
                continue
            response = None
            if connection.state is LinkState.REFUSED or (stop_when_away and self.away):
                raise self._failure("is away")
            try:
                async with asyncio.timeout_at(deadline_s):
                    await connection.change()
            except TimeoutError:
                raise self._too_late() from None
        return response

    def _failure(self, text: str) -> TaperError:
        """Return the error of failing requests: what ended the last stream, else ``text``."""
        last = self._connection.last_error
        if last is not None and self._connection.stream is None:
            kind = UnauthenticatedError if isinstance(last, UnauthenticatedError) else LinkError
            return kind(str(last))
        return LinkError(f"server {self.server}: {text}")

    def _refused(self) -> TaperError:
        """Return the error that lists why every server refuses."""
        last = self._connection.last_error
        kind = UnauthenticatedError if isinstance(last, UnauthenticatedError) else LinkError
        return kind(self._connection.causes)

    def _too_late(self) -> TaperError:
        return self._failure(f"no answer within {self._settings.timeout_s:g} s")

    def _refusal(self, failure: Failure) -> RequestError:
        kind = REFUSALS.get(failure.code, RequestError)
        return kind(f"server {self.server}: {failure.message}")
