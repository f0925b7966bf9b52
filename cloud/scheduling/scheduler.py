"""Compute jobs in the event loop and the compute thread of the Python front.

``cloud.native.Dispatcher`` decides whether a job runs at once, waits or is refused, which jobs
form a batch, and the level at which the batch runs. This module carries its decisions out.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from cloud import native
from cloud.models.catalog import Catalog
from cloud.models.job import Job, Prediction
from cloud.models.served import EngineAnswer, ServedModel
from cloud.scheduling.batch import Computation, OnDone, QueuedRequest
from cloud.scheduling.compute import ComputeThread
from cloud.scheduling.settings import SchedulerSettings
from shared.errors import LateError, OverloadedError, RequestError, ServerFaultError
from shared.protocol.messages import Hints

if TYPE_CHECKING:
    from cloud.native import Rejection, Slice

INVALID = "invalid"  # the metrics' label for refused malformed requests


class Scheduler:
    """Runs jobs. All methods must be called in one event loop.

    ``dispatcher`` may be shared with a front that answers without Python.
    """

    def __init__(self, settings: SchedulerSettings, thread: ComputeThread) -> None:
        self.dispatcher = native.Dispatcher(
            settings.max_batch,
            settings.max_delay_s,
            settings.objective_s,
            settings.max_queue,
            settings.fraction,
            settings.threads,
        )
        self._thread = thread
        self._now = time.perf_counter
        self.front_busy = 0.0  # share of time, 0 to 1, for which a native front's threads are busy
        self._waiting: dict[int, QueuedRequest] = {}
        self._running = False

    def serve(self, catalog: Catalog) -> None:
        """Schedule the models of ``catalog`` from now on, and choose among their fractions."""
        self.dispatcher.serve(self._now(), [model.native for model in catalog.models])

    @property
    def fraction(self) -> float:
        """The cloud's fraction for requests that do not pin a level, above 0 up to 1."""
        return self.dispatcher.fraction

    @property
    def load(self) -> float:
        """Share of the capacity in use; above 1 if more work arrives than can be done."""
        return self.dispatcher.load(self._now())

    @property
    def queued(self) -> tuple[int, int]:
        """Numbers of requests and of samples that wait."""
        return self.dispatcher.queued

    def submit(
        self,
        model: ServedModel,
        job: Job,
        client: str,
        remaining_s: float | None,
        on_done: OnDone,
    ) -> Prediction | QueuedRequest:
        """Run ``job`` at once and return its prediction, or queue it and return its place.

        If it is queued, ``on_done`` receives the prediction or the error later. ``client`` is the
        name that fairness counts by, ``remaining_s`` the time until the deadline or None. Raises
        ``RequestError`` if the job is refused at once.
        """
        try:
            model.check(job)
        except RequestError:
            self.dispatcher.count_refused(model.native, INVALID)
            raise
        verdict = self.dispatcher.submit(
            self._now(),
            model.native,
            job.level,
            job.cloud_level,
            job.encoding,
            job.samples,
            model.expected_samples(job),
            job.made_in_slices,
            client,
            remaining_s,
        )
        if isinstance(verdict, int):
            return self._run_at_once(model, job, verdict)
        if isinstance(verdict, native.Rejection):
            raise _refusal(verdict)
        request = QueuedRequest(verdict, model, job, on_done)
        self._waiting[verdict.number] = request
        if not self._running:
            self._start()
        return request

    def answer_at_once(self, model: ServedModel, data: bytes, client: str) -> EngineAnswer | None:
        """Return the response to a serialised request if it is valid, cheap and need not wait.

        Returns None for any other request, which must go to ``submit``.
        """
        found = self.dispatcher.answer(self._now(), model.native, data, client)
        return None if found is None else EngineAnswer(*found)

    def answer_images_at_once(
        self, model: ServedModel, data: bytes, client: str
    ) -> EngineAnswer | None:
        """Do the same as ``answer_at_once`` for a ModelInferRequest of the Open Inference Protocol.

        Returns None until the first images of a model have been answered through ``submit``, which
        sets up its device half.
        """
        found = self.dispatcher.answer_images(self._now(), model.native, data, client)
        return None if found is None else EngineAnswer(*found)

    def withdraw(self, request: QueuedRequest) -> None:
        """Remove a job from the queue because its caller has gone."""
        if self.dispatcher.withdraw(request.place):
            self._waiting.pop(request.place.number, None)

    def tick(self, busy: float, lag_s: float) -> None:
        """Update the load; to be called regularly.

        ``busy`` is the share of time for which the event loop is busy, ``lag_s`` its delay in
        waking up.
        """
        self.dispatcher.tick(self._now(), max(busy, self.front_busy), lag_s)

    def counters(self) -> dict[str, Any]:
        """Return counts of answers and refusals so far, as ``Metrics.snapshot`` takes them."""
        self.dispatcher.account(self._now())
        return self.dispatcher.counters()

    def _run_at_once(self, model: ServedModel, job: Job, level: int) -> Prediction:
        try:
            features = model.features(job, 0, job.samples)
        except RequestError:
            self.dispatcher.count_refused(model.native, INVALID, job.decode_s)
            raise
        began_s = self._now()
        logits = model.run(features, job.level, level)
        ended_s = self._now()
        run_s = ended_s - began_s
        self.dispatcher.ran_at_once(
            ended_s,
            model.native,
            job.level,
            job.cloud_level,
            job.samples,
            level,
            job.decode_s,
            run_s,
        )
        compute_us = int((job.decode_s + run_s) * 1e6)
        return Prediction(logits, level, 0, compute_us, self._hints_for(job.level))

    def _hints_for(self, level: int) -> Hints | None:
        hints = self.dispatcher.hints_for(level)
        return None if hints is None else Hints(*hints)

    def _start(self) -> None:
        """Send the next batch to the compute thread, and refuse jobs whose deadline has passed."""
        batch, late = self.dispatcher.take(self._now())
        self._running = batch is not None
        if batch is not None:
            requests = [self._waiting[one.item.number] for one in batch.slices]
            computation = Computation(batch, requests)
            self._thread.run(computation.run, partial(self._finish, computation))
        for place in late:
            request = self._waiting.pop(place.number)
            request.on_done(LateError("deadline: passed while the request waited"))

    def _finish(self, computation: Computation) -> None:
        """Charge and answer a computed batch, in the event loop."""
        self.dispatcher.finish(computation.batch)
        self._start()
        self.dispatcher.observe(self._now())
        if computation.error is not None:
            self._fail(computation, computation.error)
            return
        level = computation.batch.cloud_level
        for one, request in zip(computation.slices, computation.requests, strict=True):
            self._answer(one, request, level)

    def _fail(self, computation: Computation, error: BaseException) -> None:
        """Answer all jobs of a batch whose computation failed."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a batch failed", "exception": error}
        )
        failed = ServerFaultError(f"server: could not compute ({type(error).__name__})")
        for request in computation.requests:
            self._waiting.pop(request.place.number, None)
            request.on_done(failed)

    def _answer(self, one: Slice, request: QueuedRequest, level: int) -> None:
        """Answer the job of slice ``one`` if that was its last slice or its payload is invalid."""
        place, _, job, on_done = request
        if job.error is not None:
            self._waiting.pop(place.number, None)
            self.dispatcher.refused(self._now(), place, INVALID)
            on_done(job.error)
        elif one.stop == job.samples and job.logits is not None:
            self._waiting.pop(place.number, None)
            queue_s = self.dispatcher.answered(self._now(), place)
            queue_us, compute_us = int(queue_s * 1e6), int(place.compute_s * 1e6)
            hints = self._hints_for(job.level)
            on_done(Prediction(job.logits, level, queue_us, compute_us, hints))


def _refusal(rejection: Rejection) -> RequestError:
    if rejection.reason is native.RejectReason.LATE:
        return LateError(rejection.message)
    return OverloadedError(rejection.message, rejection.wait_ms)
