"""Inference independent of gRPC: the bytes of a request in, the bytes of its response out.

gRPC, the Open Inference Protocol, MQTT and Ray Serve all answer through ``InferenceService``. It
finds the model and submits to the scheduler, and only it counts and logs outcomes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import grpc
import structlog

from cloud.access.control import Caller
from cloud.models.catalog import Catalog
from cloud.models.job import Job, Prediction
from cloud.models.served import ServedModel
from cloud.observability.metrics import Metrics
from cloud.rpc.look_memory import LookMemory
from cloud.scheduling.batch import OnDone, QueuedRequest
from cloud.scheduling.scheduler import Scheduler
from shared.errors import OverloadedError, RequestError
from shared.protocol.messages import (
    Failure,
    More,
    Request,
    Response,
    parse_request,
    serialise_response,
)
from shared.protocol.responses import respond

if TYPE_CHECKING:  # opentelemetry is an optional extra
    from cloud.observability.tracing import Traces

_log = structlog.stdlib.get_logger(__name__)


class Call(NamedTuple):
    """The call that a job belongs to: caller, request id, seconds until the deadline."""

    caller: Caller
    request_id: int = 0
    remaining_s: float | None = None


@dataclass
class StreamModel:
    """The state of a stream between its messages.

    model, version  those named last; they apply to messages that name none
    looks           requests for which the server asked for another look
    """

    model: str = ""
    version: str = ""
    looks: LookMemory = field(default_factory=LookMemory)

    def remember(self, model: ServedModel, with_version: bool) -> None:
        """Record that a message named ``model``, and perhaps its version."""
        self.model = model.name
        self.version = model.version if with_version else ""

    def fill_in(self, request: Request) -> Request:
        """Return ``request`` with model and version filled in; records those that it names."""
        if request.model or request.version:
            self.model, self.version = request.model, request.version
            return request
        if not self.model and not self.version:
            return request
        return request._replace(model=self.model, version=self.version)


class InferenceService:
    """Answers inference requests with the models of ``catalog``, which may be replaced."""

    def __init__(
        self,
        catalog: Catalog,
        scheduler: Scheduler,
        metrics: Metrics,
        traces: Traces | None = None,
    ) -> None:
        self.catalog = catalog
        self.on_catalog: Callable[[Catalog], object] = lambda _: None
        self._scheduler = scheduler
        self._metrics = metrics
        self._traces = traces

    def replace_catalog(self, catalog: Catalog) -> None:
        """Serve the models of ``catalog`` from now on, and call ``on_catalog`` with it."""
        self.catalog = catalog
        self._scheduler.serve(catalog)
        self.on_catalog(catalog)

    async def submit(self, data: bytes, caller: Caller, remaining_s: float | None) -> bytes:
        """Return the serialised response to a serialised InferRequest.

        ``remaining_s`` is the time until the deadline, None without one. Raises ``RequestError``
        for a refusal. The outcome is not counted here, as the response may still fail to reach the
        client. Cancelling withdraws the request from the queue.
        """
        response = self._answer_at_once(data, StreamModel(), None, caller)
        if response is not None:
            return response
        request = parse_request(data)
        model = self.catalog.find(request.model, request.version)
        call = Call(caller, request.id, remaining_s)
        prediction = await self.classify(model, _job(model, request), call)
        return self._serialise(model, request, prediction, None)

    def submit_in_stream(
        self,
        data: bytes,
        caller: Caller,
        named: StreamModel,
        on_done: Callable[[bytes], object],
    ) -> bytes | QueuedRequest:
        """Answer one message of a stream, in which a refusal is a response too.

        Returns the serialised response if the request was answered at once. Otherwise returns the
        queued request, and ``on_done`` receives the response later, in the event loop. The outcome
        is counted. ``named`` is the state of the stream.
        """
        try:
            response = self._answer_at_once(data, named, named.looks, caller)
        except RequestError as error:
            request_id = parse_request(data).id
            self.count_refusal(error, caller, len(data), request_id)
            return refusal(request_id, error)
        if response is not None:
            self.count_answer(len(data), len(response))
            return response
        request = Request.empty()

        def outcome_to_bytes(outcome: Prediction | RequestError) -> bytes:
            if isinstance(outcome, RequestError):
                self.count_refusal(outcome, caller, len(data), request.id)
                return refusal(request.id, outcome)
            try:
                answer = self._serialise(model, request, outcome, named.looks)
            except RequestError as error:
                return outcome_to_bytes(error)
            self.count_answer(len(data), len(answer))
            return answer

        try:
            request = named.fill_in(parse_request(data))
            model = self.catalog.find(request.model, request.version)
            begun = self._begin(
                model,
                _job(model, request),
                Call(caller, request.id),
                lambda outcome: on_done(outcome_to_bytes(outcome)),
            )
        except RequestError as error:
            return outcome_to_bytes(error)
        return outcome_to_bytes(begun) if isinstance(begun, Prediction) else begun

    def answer_images_at_once(self, name: str, data: bytes, caller: Caller) -> bytes | None:
        """Return the response to a serialised ModelInferRequest for the model ``name``.

        It takes a single native call; returns None for requests that need more than that.
        """
        listed = None if self._traces is not None else self.catalog.versions.get(name)
        if listed is None:
            return None
        found = self._scheduler.answer_images_at_once(listed[0], data, caller.name)
        return None if found is None else found.response

    async def classify(self, model: ServedModel, job: Job, call: Call) -> Prediction:
        """Wait for the prediction for ``job``; raises and cancels as ``submit`` does."""
        done: asyncio.Future[Prediction | RequestError] | None = None

        def on_done(outcome: Prediction | RequestError) -> None:
            if done is not None and not done.done():
                done.set_result(outcome)

        begun = self._begin(model, job, call, on_done)
        if isinstance(begun, Prediction):
            return begun
        done = asyncio.get_running_loop().create_future()
        try:
            outcome = await done
        except asyncio.CancelledError:
            self.withdraw(begun)
            raise
        if isinstance(outcome, RequestError):
            raise outcome
        return outcome

    def withdraw(self, queued: QueuedRequest) -> None:
        """Remove a request from the queue because its client has gone."""
        self._scheduler.withdraw(queued)

    def count_answer(self, received_bytes: int, sent_bytes: int) -> None:
        """Count an answered request and the sizes of its messages."""
        self._metrics.request("OK", received_bytes, sent_bytes)

    def count_refusal(
        self, error: RequestError, caller: Caller, received_bytes: int, request_id: int = 0
    ) -> None:
        """Count and log a refused request."""
        self._metrics.request(error.grpc_status, received_bytes, 0)
        _log.debug(
            "refused",
            request=request_id,
            client=caller.name,
            status=error.grpc_status,
            why=str(error),
        )

    def _answer_at_once(
        self, data: bytes, named: StreamModel, memory: LookMemory | None, caller: Caller
    ) -> bytes | None:
        """Return the response if a single native call can make it, else None.

        It can for a plain request to the model of ``named``. Raises ``InvalidRequestError`` for an
        invalid later look.
        """
        if self._traces is not None:
            return None
        try:
            model = self.catalog.find(named.model, named.version)
        except RequestError:
            return None
        found = self._scheduler.answer_at_once(model, data, caller.name)
        if found is None:
            return None
        if found.names_model or found.names_version:
            named.remember(model, found.names_version)
        if found.earlier_looks is not None:
            self._note_looks(memory, model, found.id, found.earlier_looks, found.asked)
        return found.response

    def _serialise(
        self,
        model: ServedModel,
        request: Request,
        prediction: Prediction,
        memory: LookMemory | None,
    ) -> bytes:
        logits, level, queue_us, compute_us, hints = prediction
        more: More | None = None
        if request.looks is not None:
            frame = request.frame
            # A suggested level means that the server is loaded; then it asks for no second look.
            if hints is None or hints.suggested_level is None:
                more = model.more(frame.level, request.looks, logits)
            asked = 0 if more is None else len(more.samples) or frame.samples
            self._note_looks(memory, model, request.id, request.looks.earlier, asked)
        computed = (level, queue_us, compute_us)
        return respond(request.id, request.top_k, logits, computed, hints, more)

    def _note_looks(
        self,
        memory: LookMemory | None,
        model: ServedModel,
        request_id: int,
        earlier: int,
        asked: int,
    ) -> None:
        """Count looks and record them in ``memory``; ``InvalidRequestError`` for an invalid one."""
        counters = self._metrics.counters
        if earlier:
            try:
                known = memory is not None and memory.looked(request_id, model.version)
            except RequestError:
                counters["second_looks_refused"] += 1
                raise
            counters["second_looks" if known else "second_looks_unknown"] += 1
        elif asked:
            counters["looks_asked"] += asked
            if memory is not None:
                memory.asked(request_id, model.version)

    def _begin(
        self, model: ServedModel, job: Job, call: Call, on_done: OnDone
    ) -> Prediction | QueuedRequest:
        traces, client = self._traces, call.caller.name
        if traces is None:
            return self._scheduler.submit(model, job, client, call.remaining_s, on_done)

        def trace(outcome: Prediction | RequestError) -> None:
            traces.record(outcome, model, job, call.request_id, client, call.caller.trace)

        def trace_and_pass_on(outcome: Prediction | RequestError) -> None:
            trace(outcome)
            on_done(outcome)

        try:
            begun = self._scheduler.submit(model, job, client, call.remaining_s, trace_and_pass_on)
        except RequestError as error:
            trace(error)
            raise
        if isinstance(begun, Prediction):
            trace(begun)
        return begun


def _job(model: ServedModel, request: Request) -> Job:
    frame = request.frame
    if request.looks is not None:
        model.check_looks(frame.level, request.looks)
    return Job(frame.level, frame.samples, request.cloud_level, frame)


def status_of(error: RequestError) -> grpc.StatusCode:
    """Return the gRPC status of an error."""
    return grpc.StatusCode[error.grpc_status]


def refusal(request_id: int, error: RequestError) -> bytes:
    """Return a serialised response that gives the reason of a refusal."""
    return serialise_response(Response(request_id, failure=_failure(error)))


def _failure(error: RequestError) -> Failure:
    code: int = status_of(error).value[0]
    retry_after_ms = error.retry_after_ms if isinstance(error, OverloadedError) else 0
    return Failure(code, str(error), retry_after_ms)
