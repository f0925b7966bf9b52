"""From a request to its response: the model is found, the scheduler asked, the outcome counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
import structlog

from cloud.access.gate import Caller
from cloud.models.catalog import Catalog
from cloud.observability.metrics import Metrics
from cloud.scheduling.batching import Item
from cloud.scheduling.scheduler import Key, Scheduler, Ticket
from protos.split.v1 import split_pb2 as pb
from shared.errors import OverloadedError, RequestError
from shared.protocol.messages import Failure, Request, Response, response_to_message

if TYPE_CHECKING:  # an extra that need not be installed
    from cloud.observability.tracing import Traces

_log = structlog.stdlib.get_logger(__name__)

Waiter = Item[Key, Ticket]


def status_of(error: RequestError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    return grpc.StatusCode[error.grpc_status]


def failure_of(error: RequestError) -> Failure:
    """An error as a response in a stream says it."""
    code: int = status_of(error).value[0]
    retry_after_ms = error.retry_after_ms if isinstance(error, OverloadedError) else 0
    return Failure(code, str(error), retry_after_ms)


class Answering:
    """What unary calls and streams share. ``catalog`` may be replaced at any time."""

    def __init__(
        self,
        catalog: Catalog,
        scheduler: Scheduler,
        metrics: Metrics,
        traces: Traces | None = None,
    ) -> None:
        self.catalog = catalog
        self._scheduler = scheduler
        self._metrics = metrics
        self._traces = traces

    def begin(
        self,
        request: Request,
        caller: Caller,
        remaining_s: float | None,
        then: Callable[[Response | RequestError], object],
    ) -> Response | Waiter:
        """The response, or what waits for it: ``then`` is called with the outcome later.

        Raises ``RequestError`` for what is refused at once.
        """
        model = self.catalog.find(request.model, request.version)
        traces = self._traces
        if traces is None:
            return self._scheduler.submit(model, request, caller.name, remaining_s, then)

        def ended(outcome: Response | RequestError) -> None:
            traces.ended(outcome, model, request, caller.name, caller.trace)

        def told(outcome: Response | RequestError) -> None:
            ended(outcome)
            then(outcome)

        try:
            begun = self._scheduler.submit(model, request, caller.name, remaining_s, told)
        except RequestError as error:
            ended(error)
            raise
        if not isinstance(begun, Item):
            ended(begun)
        return begun

    async def finish(self, request: Request, caller: Caller, remaining_s: float | None) -> Response:
        """The response, once it is there; raises ``RequestError``. A cancelled wait gives up."""
        later: asyncio.Future[Response | RequestError] | None = None

        def then(outcome: Response | RequestError) -> None:
            if later is not None and not later.done():
                later.set_result(outcome)

        begun = self.begin(request, caller, remaining_s, then)
        if not isinstance(begun, Item):
            return begun
        later = asyncio.get_running_loop().create_future()
        try:
            outcome = await later
        except asyncio.CancelledError:
            self.give_up(begun)
            raise
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    def give_up(self, item: Waiter) -> None:
        """Nobody waits for ``item`` any more."""
        self._scheduler.give_up(item)

    def message(
        self, outcome: Response | RequestError, request_id: int, caller: Caller, received: int
    ) -> pb.InferResponse:
        """The message of an outcome in a stream; ``received`` bytes asked for it."""
        if isinstance(outcome, RequestError):
            self.refused(outcome, request_id, caller, received)
            return response_to_message(Response(request_id, failure=failure_of(outcome)))
        message = response_to_message(outcome)
        self.answered(received, message.ByteSize())
        return message

    def answered(self, received: int, sent: int) -> None:
        """Count an answer of ``sent`` bytes to a request of ``received``."""
        self._metrics.request("OK", received, sent)

    def refused(self, error: RequestError, request_id: int, caller: Caller, received: int) -> None:
        """Count and log a refusal."""
        self._metrics.request(error.grpc_status, received, 0)
        _log.debug(
            "refused",
            request=request_id,
            client=caller.name,
            status=error.grpc_status,
            why=str(error),
        )
