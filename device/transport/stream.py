"""One inference stream to one server; answers are matched to requests by id."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

import grpc

from device.transport.backoff import PUSHBACK_KEY, pushback_s
from device.transport.channel import Security
from protos.split.v1 import split_pb2_grpc
from protos.split.v1.split_pb2 import InferResponse
from shared.errors import LinkError, UnauthenticatedError
from shared.protocol.messages import Request, Response, request_to_message, response_from_message

# Statuses after which another attempt soon would fail too.
REFUSED_TOKEN = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
FINAL = {
    grpc.StatusCode.UNIMPLEMENTED: "does not speak taper.split.v1",
    **dict.fromkeys(REFUSED_TOKEN, "refuses the token"),
}

# What grpc.aio gives as details if a write fails before the server's have arrived.
LOST_STATUS = "Internal error from Core"


@dataclass(frozen=True)
class Loss:
    """Why a stream ended.

    wait_s  seconds for which the server asks the client to stay away
    final   whether another attempt at this server soon would fail too, see FINAL
    unknown whether the server may have given another reason, which was lost
    """

    error: LinkError | UnauthenticatedError
    wait_s: float | None = None
    final: bool = False
    unknown: bool = False


class StreamLostError(LinkError):
    """The stream ended before the answer arrived; the request may be repeated on another."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(str(loss.error))
        self.loss = loss


class Stream:
    """An open stream. ``read`` must run in a task; it returns when the stream ends."""

    def __init__(self, channel: grpc.aio.Channel, address: str, security: Security) -> None:
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        self._call = stub.InferStream(metadata=security.metadata or None)
        self._channel = channel
        self.address = address
        self.answers = 0
        self.loss: Loss | None = None
        self._named = ("", "")
        self._pending: dict[int, asyncio.Future[Response]] = {}
        self._writing = asyncio.Lock()
        # Answer whose request is being written.
        self._blocked: asyncio.Future[Response] | None = None

    async def exchange(self, request: Request, deadline_s: float) -> Response:
        """Send ``request`` and wait for its answer until ``deadline_s`` on the event loop's clock.

        Raises ``StreamLostError`` if the stream ends, ``TimeoutError`` when time is up. After a
        cancellation the answer is ignored.
        """
        if self.loss is not None:
            raise StreamLostError(self.loss)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Response] = loop.create_future()
        self._pending[request.id] = answer
        # A plain timer, since ``asyncio.timeout`` would take a tenth of the whole exchange's time.
        timer = loop.call_at(deadline_s, self._expire, answer)
        try:
            async with self._writing:
                self._blocked = answer
                await self._write(request)
                self._blocked = None
            return await answer
        finally:
            timer.cancel()
            del self._pending[request.id]
            if answer.done() and not answer.cancelled():
                # Marks it as retrieved, as writing may have failed before the wait.
                answer.exception()

    def _expire(self, answer: asyncio.Future[Response]) -> None:
        if not answer.done():
            answer.set_exception(TimeoutError())
        if self._blocked is answer:
            # The network accepts no more bytes, and a partial message makes the stream unusable.
            self.abort()

    async def _write(self, request: Request) -> None:
        message = request_to_message(request)
        # Model and version are only sent when they change: the server remembers the last ones.
        name = (request.model, request.version)
        if name == self._named:
            message.ClearField("model")
            message.ClearField("version")
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            raise StreamLostError(self.loss or self._loss_by(error)) from None
        except asyncio.CancelledError:
            if _task_is_cancelled():
                raise
            raise StreamLostError(self.loss or self._given_up()) from None
        self._named = name

    async def read(self) -> Loss:
        """Pass responses to the waiting requests until the stream ends; returns the reason."""
        try:
            while True:
                message = await self._call.read()
                if message is grpc.aio.EOF:
                    # The status has the reason.
                    code = await self._call.code()
                    if code is grpc.StatusCode.OK:
                        loss = Loss(LinkError(f"server {self.address}: ended the stream"))
                    else:
                        loss = self._loss(code, await self._call.details(), await self._pushback())
                    break
                if message is None:  # gRPC's sign for bytes that cannot be parsed
                    error = LinkError(f"server {self.address}: answers what is no response")
                    loss = Loss(error, final=True)
                    break
                response = response_from_message(cast("InferResponse", message))
                self.answers += 1
                waiting = self._pending.get(response.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(response)
        except grpc.aio.AioRpcError as error:
            loss = self._loss_by(error)
        except asyncio.CancelledError:
            if _task_is_cancelled():
                raise
            loss = self._given_up()
        self._end(loss)
        return loss

    async def close(self) -> None:
        """Close the stream and its channel; waiting requests fail with ``StreamLostError``."""
        self._end(Loss(LinkError(f"server {self.address}: the connection was closed")))
        self._call.cancel()
        await self._channel.close()

    def abort(self) -> None:
        """Cancel the call, which makes ``read`` return."""
        self._call.cancel()

    def _end(self, loss: Loss) -> None:
        if self.loss is None:
            self.loss = loss
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(StreamLostError(self.loss))

    def _given_up(self) -> Loss:
        return Loss(LinkError(f"server {self.address}: the connection was given up"))

    async def _pushback(self) -> str | bytes | None:
        trailing = await self._call.trailing_metadata()
        return dict(trailing or ()).get(PUSHBACK_KEY)

    def _loss_by(self, error: BaseException) -> Loss:
        if isinstance(error, grpc.aio.AioRpcError):
            trailing = dict(error.trailing_metadata() or ())
            return self._loss(error.code(), error.details(), trailing.get(PUSHBACK_KEY))
        return self._loss(None, str(error), None)

    def _loss(
        self, code: grpc.StatusCode | None, details: str | None, pushback: str | bytes | None
    ) -> Loss:
        said = f" ({details})" if details else ""
        if code in FINAL:
            text = f"server {self.address}: {FINAL[code]}{said}"
            error = UnauthenticatedError(text) if code in REFUSED_TOKEN else LinkError(text)
            return Loss(error, pushback_s(pushback), final=True)
        text = f"server {self.address}: connection lost{said}"
        return Loss(LinkError(text), pushback_s(pushback), unknown=details == LOST_STATUS)


def _task_is_cancelled() -> bool:
    """Whether a ``CancelledError`` is for this task, not for a gRPC call that we cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
