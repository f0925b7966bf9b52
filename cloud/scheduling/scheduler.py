"""From a job to its logits: admission, fair batches, the level, the compute thread.

A job that is cheap and finds nothing waiting runs at once in the event loop, as the hop to another
thread would cost more than its kernel. So does a cheap request beside a batch of other clients, up
to as much work as each of those has in the batch. All others wait until the compute thread is free.
Work is charged by what it took, once its payload has been verified. All methods belong to one event
loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cloud.models.catalog import Catalog
from cloud.models.job import Job, Prediction
from cloud.models.served import EngineAnswer, ServedModel
from cloud.scheduling.admission import (
    QueueLimits,
    QueueState,
    RejectReason,
    pushback_ms,
    reject_reason,
)
from cloud.scheduling.batch import Batch, OnDone, QueuedRequest, Waiting
from cloud.scheduling.compute import ComputeThread
from cloud.scheduling.fair_queue import FairQueue, Item, Slice
from cloud.scheduling.load import Key, LoadMonitor
from cloud.scheduling.settings import Observer, SchedulerSettings
from shared.errors import LateError, OverloadedError, RequestError, ServerFaultError

INLINE_S = 100e-6  # a job may block the event loop for as long as a call costs anyway
ALONE_S = 300e-6  # and while one client asks alone, for as long as a batch takes
COMPANY_TICKS = 2  # a client has company for so long after another one has asked
ACCOUNTED_AT = 64  # jobs that ran at once are counted in groups of this size
NEVER_S = float("inf")


@dataclass(slots=True, eq=False)
class _RanAtOnce:
    """Jobs of one kind that ran in the event loop and are counted later, together.

    ``samples`` are those of each job; ``seconds`` has its decoding and running for each of them.
    """

    key: Key
    encoding: int | None  # None: their decoding was counted already
    samples: int
    cloud_level: int
    decode_s: float = 0.0
    run_s: float = 0.0
    seconds: list[float] = field(default_factory=list)


class Scheduler:
    """Runs jobs; ``now`` is the clock, in seconds."""

    def __init__(
        self,
        settings: SchedulerSettings,
        thread: ComputeThread,
        observer: Observer,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._thread = thread
        self._observer = observer
        self._now = now
        self._queue: FairQueue[Key, Waiting] = FairQueue(settings.max_batch, settings.max_delay_s)
        self._limits = QueueLimits(settings.max_queue, settings.objective_s)
        self._load = LoadMonitor(settings.objective_s, settings.fraction)
        self._running: Batch | None = None
        self._at_once: dict[tuple[Key, int | None, int, int], _RanAtOnce] = {}
        self._uncounted = 0
        self._last_client = ""
        self._company = 0  # ticks for which nobody counts as alone

    def serve(self, catalog: Catalog) -> None:
        """Choose among the fractions of the models in ``catalog`` from now on."""
        self.account()
        self._load.serve(catalog)
        for model in catalog.models:
            model.limit_engine(self._load.level_of(model), self._inline_s)

    @property
    def fraction(self) -> float:
        """The cloud's fraction for requests that do not pin a level."""
        return self._load.fraction

    @property
    def load(self) -> float:
        """Share of the capacity in use; above 1 if more is asked for than can be done."""
        return self._load.load(self._now())

    @property
    def queued(self) -> tuple[int, int]:
        """Requests and samples that wait."""
        return self._queue.requests, self._queue.samples

    def submit(
        self,
        model: ServedModel,
        job: Job,
        client: str,
        remaining_s: float | None,
        on_done: OnDone,
    ) -> Prediction | QueuedRequest:
        """The prediction, or the queued job; then ``on_done`` receives the outcome later.

        Raises ``RequestError`` for a job that is refused at once.
        """
        try:
            model.check(job)
        except RequestError:
            self._count_refusal(model, "invalid")
            raise
        key = Key(model, job.level, job.cloud_level)
        expected = model.expected_samples(job)
        level = self._load.cloud_level(key)
        predicted_s = model.predicted_s(job, level, expected)
        if self._running is None and not self._queue.requests:
            self._note(client)
            in_time = remaining_s is None or predicted_s <= remaining_s
            if predicted_s <= self._inline_s and in_time:
                return self._run_at_once(key, job, level)
        self._admit(key, client, expected, predicted_s, remaining_s)
        item = self._item(key, job, client, expected, remaining_s, on_done)
        self._queue.put(item)
        self._observe()
        if self._running is None:
            self._start()
        return item

    def answer_at_once(self, model: ServedModel, data: bytes, client: str) -> EngineAnswer | None:
        """The serialised response to a request that is cheap, right and need not wait.

        None for all others; they go to ``submit``.
        """
        if not self._may_run_at_once(client):
            return None
        cloud_level = self._load.level_of(model)
        found = model.answer_at_once(data, cloud_level, self._load.hints, self._load.crowded)
        if found is not None:
            self._answered_at_once(model, found, cloud_level, client)
        return found

    def answer_images_at_once(
        self, model: ServedModel, data: bytes, client: str
    ) -> EngineAnswer | None:
        """Like ``answer_at_once`` for a ModelInferRequest of the Open Inference Protocol."""
        if not self._may_run_at_once(client):
            return None
        cloud_level = self._load.level_of(model)
        found = model.answer_images_at_once(data, cloud_level)
        if found is not None:
            self._answered_at_once(model, found, cloud_level, client)
        return found

    def withdraw(self, item: QueuedRequest) -> None:
        """Remove a job from the queue, as nobody waits for its outcome."""
        self._queue.drop(item)

    def tick(self, busy: float, lag_s: float) -> None:
        """Call regularly with the event loop's share of time at work, and its delay in waking."""
        now_s = self._now()
        self._company = max(self._company - 1, 0)
        self._observe(at_once=True)
        self._load.tick(now_s, busy, lag_s)

    def account(self) -> None:
        """Count the jobs that ran at once; one by one that would cost as much as they."""
        now_s = self._now()
        for ran in self._at_once.values():
            model, level = ran.key.model, ran.key.level
            jobs = len(ran.seconds)
            if ran.encoding is not None:
                mean_s = ran.decode_s / jobs
                model.costs.learn_decode(ran.encoding, level, ran.samples, mean_s)
            model.costs.learn_run(level, ran.cloud_level, ran.samples, ran.run_s / jobs)
            self._load.offer(ran.key, jobs * ran.samples, ran.decode_s, jobs)
            self._load.answered(now_s, ran.seconds)
            self._observer.ran_at_once(model, ran.cloud_level, ran.samples, ran.seconds)
            model.statistics.ran_at_once(ran.samples, ran.seconds)
        for model in {ran.key.model for ran in self._at_once.values()}:
            model.limit_engine(self._load.level_of(model), self._inline_s)
        self._at_once.clear()
        self._uncounted = 0

    @property
    def _inline_s(self) -> float:
        return INLINE_S if self._company else ALONE_S

    def _note(self, client: str) -> None:
        """Take note of who asks, to know whether it is alone."""
        if client != self._last_client:
            self._last_client, self._company = client, COMPANY_TICKS

    def _may_run_at_once(self, client: str) -> bool:
        self._note(client)
        batch = self._running
        return batch is None or (not self._queue.waits(client) and batch.may_pass(client))

    def _answered_at_once(
        self, model: ServedModel, found: EngineAnswer, cloud_level: int, client: str
    ) -> None:
        if self._running is not None:
            self._running.passed(client, found.decode_s + found.run_s)
        kind = (Key(model, found.level, None), found.encoding, found.samples, cloud_level)
        self._count_at_once(kind, found.decode_s, found.run_s)

    def _count_at_once(
        self, kind: tuple[Key, int | None, int, int], decode_s: float, run_s: float
    ) -> None:
        """Count a job by its key, encoding, samples and cloud level."""
        ran = self._at_once.get(kind)
        if ran is None:
            ran = self._at_once[kind] = _RanAtOnce(*kind)
        ran.decode_s += decode_s
        ran.run_s += run_s
        ran.seconds.append(decode_s + run_s)
        self._uncounted += 1
        if self._uncounted >= ACCOUNTED_AT:
            self.account()

    def _run_at_once(self, key: Key, job: Job, level: int) -> Prediction:
        try:
            features = key.model.features(job, 0, job.samples)
        except RequestError:
            self._count_refusal(key.model, "invalid", job.compute_s)
            raise
        began_s = self._now()
        logits = key.model.run(features, job.level, level)
        run_s = self._now() - began_s
        self._count_at_once((key, None, job.samples, level), job.compute_s, run_s)
        hints = self._load.hints and self._load.hints_for(job.level)
        return Prediction(logits, level, 0, int((job.compute_s + run_s) * 1e6), hints)

    def _item(
        self,
        key: Key,
        job: Job,
        client: str,
        expected: int,
        remaining_s: float | None,
        on_done: OnDone,
    ) -> QueuedRequest:
        now_s = self._now()
        costs, level = key.model.costs, self._load.cloud_level(key)
        decode_s = costs.decode_s(job.encoding, job.level, expected)
        sample_s = costs.sample_s(job.level, level)
        if job.made_in_slices:
            decode_s, sample_s = 0.0, sample_s + decode_s / expected
        return Item(
            key,
            client,
            job.samples,
            now_s,
            NEVER_S if remaining_s is None else now_s + remaining_s,
            Waiting(job, on_done),
            once_s=decode_s,
            sample_s=max(sample_s, 1e-9),
            expected=expected,
        )

    def _admit(
        self, key: Key, client: str, samples: int, work_s: float, remaining_s: float | None
    ) -> None:
        """Raise ``RequestError`` unless the job may wait."""
        own = self._queue.client_samples(client)
        delays_s = self._delays_s()
        state = QueueState(
            samples=self._queue.samples,
            client_samples=own,
            clients=self._queue.clients - (1 if own else 0),
            delay_s=delays_s[0],
            level_delay_s=delays_s[self._load.rung],
        )
        reason = reject_reason(state, self._limits, samples, work_s, remaining_s)
        if reason is None:
            return
        self._count_refusal(key.model, reason.value)
        self._load.offer(key, samples, 0.0)
        self._observe()
        if reason is RejectReason.LATE:
            raise LateError(
                f"deadline: cannot be met; {1000 * state.level_delay_s:.1f} ms of work wait"
            )
        wait_ms = pushback_ms(state)
        whose = "this client's share of the queue" if reason is RejectReason.SHARE else "the queue"
        raise OverloadedError(f"server: {whose} is full; try again in {wait_ms} ms", wait_ms)

    def _delays_s(self) -> list[float]:
        """Predicted seconds until everything that waits is done, at each fraction."""
        rest_s = 0.0 if self._running is None else max(self._running.ends_s - self._now(), 0.0)
        return self._load.delays_s(rest_s, self._queue.once_s, self._queue.by_key())

    def _observe(self, at_once: bool = False) -> None:
        self.account()
        self._load.observe(self._now(), self._delays_s(), at_once)

    def _start(self) -> None:
        """Send the next batch to the compute thread, if anything waits."""
        now_s = self._now()
        while slices := self._queue.take(now_s):
            key = slices[0].item.key
            level = self._load.cloud_level(key)
            ends_s = now_s + sum(one.predicted_s for one in slices)
            ends_s += key.model.costs.run_s(key.level, level, 0)
            late = [one for one in slices if ends_s > one.item.deadline_s]
            for one in late:
                error = LateError("deadline: passed while the request waited")
                self._refuse(one.item, error, RejectReason.LATE.value)
            if len(late) < len(slices):
                in_time = [one for one in slices if ends_s <= one.item.deadline_s]
                batch = Batch(key, in_time, level, ends_s)
                self._running = batch
                self._thread.run(batch.compute, partial(self._finish, batch))
                return

    def _finish(self, batch: Batch) -> None:
        """Charge and answer a batch, back in the event loop."""
        self._running = None
        for one in batch.slices:
            if batch.error is not None or one.item.work.job.error is not None:
                self._queue.drop(one.item)  # before its next slice starts
        if batch.error is None:
            self._charge(batch)
        self._start()
        self._observe()
        if batch.error is not None:
            self._fail(batch, batch.error)
            return
        for one in batch.slices:
            self._answer(one, batch.cloud_level)

    def _charge(self, batch: Batch) -> None:
        """Charge measured time to the clients, and count verified work as asked for."""
        key, level = batch.key, batch.cloud_level
        decode_s = 0.0
        for one, seconds in zip(batch.slices, batch.seconds, strict=True):
            self._queue.charge(one.item.client, seconds - one.predicted_s)
            job = one.item.work.job
            if job.error is None:
                if job.features is not None:
                    self._queue.decoded(one.item)
                decode_s += seconds
        decode_s = max(decode_s - batch.run_s, 0.0)
        if batch.computed:
            self._load.offer(key, batch.computed, decode_s)
            key.model.costs.learn_run(key.level, level, batch.computed, batch.run_s)
        self._observer.batch(key.model, level, batch.computed, decode_s + batch.run_s)
        key.model.statistics.batch(batch.computed)

    def _fail(self, batch: Batch, error: BaseException) -> None:
        """Answer all jobs of a batch whose computation failed."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a batch failed", "exception": error}
        )
        failed = ServerFaultError(f"server: could not compute ({type(error).__name__})")
        for one in batch.slices:
            batch.key.model.statistics.failed(one.item.work.job.compute_s)
            one.item.work.on_done(failed)

    def _answer(self, one: Slice[Key, Waiting], level: int) -> None:
        """Pass on the outcome of a job if this was its last slice."""
        job, on_done = one.item.work
        if job.error is not None:
            self._refuse(one.item, job.error, "invalid")
        elif one.stop == job.samples and job.logits is not None:
            now_s = self._now()
            sojourn_s = now_s - one.item.arrived_s
            queue_s = max(sojourn_s - job.compute_s, 0.0)
            self._observer.answered(queue_s, job.compute_s)
            one.item.key.model.statistics.answered(queue_s, job.compute_s)
            self._load.answered(now_s, (sojourn_s,))
            hints = self._load.hints and self._load.hints_for(job.level)
            queue_us, compute_us = int(queue_s * 1e6), int(job.compute_s * 1e6)
            on_done(Prediction(job.logits, level, queue_us, compute_us, hints))

    def _count_refusal(self, model: ServedModel, reason: str, seconds: float = 0.0) -> None:
        self._observer.refused(reason)
        model.statistics.failed(seconds)

    def _refuse(self, item: QueuedRequest, error: RequestError, reason: str) -> None:
        self._queue.drop(item)
        self._count_refusal(item.key.model, reason, self._now() - item.arrived_s)
        item.work.on_done(error)
