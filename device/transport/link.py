"""The link to the cloud: one open stream at a time, reopened when it breaks, over several servers.

A request may be sent again on another stream, since it is idempotent: it carries the same id and
the same bytes, the server keeps nothing of it, and an answer is handed out once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from device.transport.backoff import Backoff
from device.transport.channel import Security, check_address, check_addresses, connect, open_channel
from device.transport.stream import Loss, Stream, StreamLostError
from shared.errors import (
    InvalidRequestError,
    LinkError,
    OverloadedError,
    RequestError,
    UnknownModelError,
    VersionMismatchError,
)
from shared.protocol.codec import Frame
from shared.protocol.messages import Failure, Hints, Request, Response

__all__ = ["Identity", "Link", "Security", "check_address"]

VERSION_DIGITS = 16  # of the 64 that name a model's version: enough, and a fourth of the bytes
CONNECT_S = 5.0  # one attempt takes no longer
LISTEN_S = 0.2  # a new stream that ends within this time does not count as a working one
REFUSALS: dict[int, type[RequestError]] = {
    grpc.StatusCode[error.grpc_status].value[0]: error
    for error in (InvalidRequestError, UnknownModelError, VersionMismatchError, OverloadedError)
}
TRY_AGAIN = (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], grpc.StatusCode.UNAVAILABLE.value[0])
Opener = Callable[[str, Security], grpc.aio.Channel]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Which model a request is for; empty fields leave it to the server."""

    model: str = ""
    version: str = ""


class Link:
    """A connection to the first of ``servers`` that can be reached. Use as ``async with``.

    ``wait_s`` is how long the first connection may take, ``timeout_s`` how long one answer may
    take, over as many attempts as fit. All failures are ``LinkError``; a refusal by the server is
    ``RequestError``. With ``patient`` a link starts while no server can be reached. ``opener``
    makes channels.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        model: str = "",
        version: str = "",
        wait_s: float = 10.0,
        timeout_s: float = 10.0,
        security: Security | None = None,
        patient: bool = False,
        backoff: Backoff | None = None,
        opener: Opener = open_channel,
    ) -> None:
        self._opener = opener
        self._security = Security() if security is None else security
        self._servers = check_addresses(servers, self._security)
        self._identity = Identity(model, version[:VERSION_DIGITS])
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._patient = patient
        self._backoff = Backoff() if backoff is None else backoff
        self._next_id = 0
        self._stream: Stream | None = None
        self._turned = asyncio.Event()  # set at every change; whoever waits takes the next one
        self._failed = 0  # attempts since a stream last worked
        self._refused: set[str] = set()  # servers that will not change their mind soon
        self._not_before: dict[str, float] = {}
        self._last_error: LinkError | None = None
        self.hints: Hints | None = None
        self.round_trip_s: float | None = None
        self.connections = 0

    @property
    def away(self) -> bool:
        """Whether no server can be reached: there is no stream, and every server was tried."""
        return self._stream is None and self._failed >= len(self._servers)

    @property
    def server(self) -> str:
        """The server in use, or the first."""
        return self._servers[0] if self._stream is None else self._stream.address

    async def __aenter__(self) -> Self:
        # Certificates that cannot be read are told here, not by a task in the background.
        await open_channel(self._servers[0], self._security).close()
        self._keeper = asyncio.create_task(self._keep(), name="link keeper")
        try:
            async with asyncio.timeout(self._wait_s):
                while self._stream is None and not self._all_refuse():
                    if self._patient and self.away:
                        return self
                    await self._turn()
        except TimeoutError:
            if self._patient:
                return self
            await self._stop()
            listed = ", ".join(self._servers)
            raise LinkError(
                f"--server: {listed} could not be reached within {self._wait_s:g} s"
            ) from None
        except BaseException:
            await self._stop()
            raise
        if self._stream is None and not self._patient:
            await self._stop()
            raise self._error("refused")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def infer(
        self,
        frame: Frame,
        top_k: int = 0,
        identity: Identity | None = None,
        stop_when_away: bool = False,
    ) -> Response:
        """Send one frame and wait for its answer. Safe to call many times at once.

        Tries again, within the time limit, when the stream breaks or the server asks to come back
        later; with ``stop_when_away`` it gives up as soon as no server can be reached.
        """
        self._next_id += 1
        name = self._identity if identity is None else identity
        request = Request(self._next_id, name.model, name.version, frame, top_k=top_k)
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        deadline_s = started_s + self._timeout_s
        stream = self._stream
        response = None
        if stream is not None:  # the usual way, short: it is part of every sample's latency
            response = await self._try(stream, request, deadline_s)
        if response is None or response.failure is not None:
            response = await self._persist(request, response, deadline_s, stop_when_away)
        if self._stream is stream:  # it came at the first try
            took_s = loop.time() - started_s
            before_s = self.round_trip_s
            self.round_trip_s = took_s if before_s is None else 0.9 * before_s + 0.1 * took_s
        self.hints = response.hints
        return response

    async def _try(self, stream: Stream, request: Request, deadline_s: float) -> Response | None:
        """The answer on ``stream``, None if the stream ends; ``LinkError`` when time is up."""
        heard = stream.answers
        try:
            response = await stream.exchange(request, deadline_s)
        except StreamLostError as error:
            self._drop(stream, error.loss)
            return None
        except TimeoutError:
            if stream.answers == heard:
                # Silence since this request went out: the network may have died without a word.
                stream.abort()
            raise self._too_late() from None
        if self._failed or self._refused:
            self._works(stream)
        return response

    async def _persist(
        self,
        request: Request,
        response: Response | None,
        deadline_s: float,
        stop_when_away: bool,
    ) -> Response:
        """Try again until there is an answer, the server refuses for good, or time is up."""
        busy = Backoff(0.05, 2.0)
        loop = asyncio.get_running_loop()
        while True:
            if response is not None:
                failure = response.failure
                if failure is None:
                    return response
                refusal = self._refusal(failure)
                wait_s = max(failure.retry_after_ms / 1000, busy.next_s())
                if failure.code not in TRY_AGAIN or loop.time() + wait_s >= deadline_s:
                    raise refusal
                await asyncio.sleep(wait_s)
            stream = self._stream
            if stream is not None:
                response = await self._try(stream, request, deadline_s)
                continue
            response = None
            if self._all_refuse() or (stop_when_away and self.away):
                raise self._error("is away")
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._turn()
            except TimeoutError:
                raise self._too_late() from None

    def _works(self, stream: Stream) -> None:
        self._failed = 0
        self._backoff.reset()
        self._refused.discard(stream.address)

    def _drop(self, stream: Stream, loss: Loss) -> None:
        """Stop using ``stream``; the keeper, which reads it, opens the next."""
        if self._stream is stream:
            self._stream = None
            self._last_error = loss.error
            stream.abort()

    async def _keep(self) -> None:
        """Open streams, one after the other, for as long as the link lives."""
        turn = 0
        while True:
            address = self._servers[turn % len(self._servers)]
            loss, worked = await self._serve(address)
            self._last_error = loss.error
            if loss.final:
                self._refused.add(address)
            now_s = asyncio.get_running_loop().time()
            if loss.wait_s is not None:
                self._not_before[address] = now_s + loss.wait_s
            if worked:
                _log.info("%s; connecting again", loss.error)
                self._failed = 0
            else:
                self._failed += 1
            turn += 1
            self._announce()
            following = self._servers[turn % len(self._servers)]
            wait_s = max(self._not_before.get(following, 0.0) - now_s, 0.0)
            # The other servers are tried at once; a whole round in vain is followed by a pause.
            if self._failed and self._failed % len(self._servers) == 0:
                wait_s = max(wait_s, self._backoff.next_s())
            await asyncio.sleep(wait_s)

    async def _serve(self, address: str) -> tuple[Loss, bool]:
        """Connect to ``address`` and read its stream to the end; whether it ever worked."""
        channel = self._opener(address, self._security)
        try:
            await connect(channel, address, CONNECT_S)
        except LinkError as error:
            await channel.close()
            return Loss(error), False
        except BaseException:
            await channel.close()
            raise
        stream = Stream(channel, address, self._security)
        started_s = asyncio.get_running_loop().time()
        self._stream = stream
        self.connections += 1
        self._announce()
        try:
            loss = await stream.read()
        finally:
            if self._stream is stream:
                self._stream = None
            await stream.close()
        lasted_s = asyncio.get_running_loop().time() - started_s
        return loss, bool(stream.answers) or (lasted_s > LISTEN_S and not loss.final)

    async def _turn(self) -> None:
        """Wait for the next change of the link."""
        await self._turned.wait()

    def _announce(self) -> None:
        """Wake everybody who waits for a change."""
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    def _all_refuse(self) -> bool:
        return len(self._refused) == len(self._servers)

    def _error(self, text: str) -> LinkError:
        last = self._last_error
        if last is not None and (self._stream is None):
            return LinkError(str(last))
        return LinkError(f"server {self.server}: {text}")

    def _too_late(self) -> LinkError:
        return self._error(f"no answer within {self._timeout_s:g} s")

    def _refusal(self, failure: Failure) -> RequestError:
        kind = REFUSALS.get(failure.code, RequestError)
        return kind(f"server {self.server}: {failure.message}")

    async def _stop(self) -> None:
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
