"""From a request to its answer: admission, batches, the level, the kernel. One event loop's own.

A request that is cheap to compute and finds nothing waiting runs at once, in the event loop: a hop
to another thread would cost more than its kernel. Everything else waits in the queue while the
compute thread is busy, and what queued meanwhile runs together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from cloud.models.catalog import Catalog
from cloud.models.served import Outcome, ServedModel
from cloud.scheduling.admission import Limits, Refusal, Waiting, pushback_ms, refusal
from cloud.scheduling.batching import BatchQueue, Item
from cloud.scheduling.compute import ComputeThread, Job
from cloud.scheduling.level_controller import Demand, LevelController
from shared.errors import LateError, OverloadedError, RequestError, ServerFaultError
from shared.fractions import level_for
from shared.protocol.codec import Frame
from shared.protocol.messages import Hints, Request, Response

INLINE_S = 100e-6  # the event loop may be kept this long by one request; a call costs as much
ACCOUNTED_AT = 64  # requests that were answered at once are counted together
OBSERVE_S = 0.005  # demand is measured no more often
LOADED = 0.75  # from this load on, answers carry hints
CROWDED = 0.9  # from this load on, if the cloud is at its narrowest, devices are asked for less
NEVER_S = float("inf")


class Observer(Protocol):
    """What is told of every batch and refusal; see ``cloud.observability.metrics``."""

    def batch(self, model: ServedModel, cloud_level: int, samples: int, compute_s: float) -> None:
        """A batch was computed."""

    def answered(self, queue_s: float, compute_s: float) -> None:
        """A request of a batch was answered."""

    def refused(self, reason: str) -> None:
        """A request was refused before it was computed."""


@dataclass(frozen=True)
class SchedulerSettings:
    """What the scheduler is to hold; times are seconds.

    objective_s     of queue and compute, for 99 in 100 requests
    max_queue       samples that may wait
    fraction        the cloud's fraction, if it is fixed
    """

    max_batch: int = 64
    max_delay_s: float = 1e-3
    objective_s: float = 0.05
    max_queue: int = 8192
    fraction: float | None = None


class Key(NamedTuple):
    """What may run together; ``pinned`` is a cloud level that the caller asked for."""

    model: ServedModel
    level: int
    pinned: int | None


@dataclass(eq=False)
class Ticket:
    """A request that waits: ``then`` gets its response, or the error, in the event loop."""

    request: Request
    then: Callable[[Response | RequestError], object]


QueuedRequest = Item[Key, Ticket]


class _Done(NamedTuple):
    """A request that was answered at once, to be accounted for."""

    model: ServedModel
    frame: Frame
    pinned: int | None
    cloud_level: int
    compute_s: float


@dataclass(eq=False)
class _Batch:
    """A batch on its way through the compute thread."""

    items: list[QueuedRequest]
    key: Key
    cloud_level: int
    ends_s: float  # predicted
    compute_s: float = 0.0
    outcomes: Sequence[Outcome] = ()
    error: BaseException | None = None


@dataclass(eq=False)
class _Ladder:
    """The cloud's fractions, narrowest first, and each model's level at each of them."""

    fractions: tuple[float, ...]
    levels: dict[ServedModel, tuple[int, ...]] = field(default_factory=dict)

    def of(self, model: ServedModel) -> tuple[int, ...]:
        levels = self.levels.get(model)
        if levels is None:
            levels = tuple(level_for(f, model.cloud_levels) for f in self.fractions)
            self.levels[model] = levels
        return levels


class Scheduler:
    """Answers requests. All methods belong to one event loop; ``now`` is its clock, in seconds."""

    def __init__(
        self,
        policy: SchedulerSettings,
        thread: ComputeThread,
        observer: Observer,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._policy = policy
        self._thread = thread
        self._observer = observer
        self._now = now
        self._queue: BatchQueue[Key, Ticket] = BatchQueue(policy.max_batch, policy.max_delay_s)
        self._running: _Batch | None = None
        self._done: list[_Done] = []
        self._limits = Limits(policy.max_queue, policy.objective_s)
        self._offered: dict[Key, int] = {}
        self._observed_s = 0.0
        self._busy = 0.0  # share of the event loop's time, told from outside
        self._hints: Hints | None = None
        self._ladder = _Ladder((1.0,) if policy.fraction is None else (policy.fraction,))
        self._controller = LevelController(1, policy.objective_s)
        self._demand = Demand(1)

    def serve(self, catalog: Catalog) -> None:
        """From now on the cloud's fractions are those of the models in ``catalog``."""
        found = {level for model in catalog.models for level in model.cloud_levels}
        before = self._ladder.fractions
        fractions = tuple(sorted(found)) if found and self._policy.fraction is None else before
        self._ladder = _Ladder(fractions)  # forgets models that are gone
        if fractions != before:
            self._offered.clear()
            self._controller = LevelController(len(fractions), self._policy.objective_s)
            self._demand = Demand(len(fractions))

    @property
    def fraction(self) -> float:
        """The fraction that requests get which do not pin one."""
        return self._ladder.fractions[self._controller.level]

    @property
    def load(self) -> float:
        """Share of the capacity that is in use; above 1 more is asked for than can be done."""
        demand = self._demand.shares(self._now())[self._controller.level]
        return max(demand, self._busy)

    @property
    def queued(self) -> tuple[int, int]:
        """Requests and samples that wait."""
        return self._queue.requests, self._queue.samples

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self._running is None and not self._queue.requests

    def submit(
        self,
        model: ServedModel,
        request: Request,
        client: str,
        remaining_s: float | None,
        then: Callable[[Response | RequestError], object],
    ) -> Response | QueuedRequest:
        """The response, or a waiter: then ``then`` is called later with what becomes of it.

        Raises ``RequestError`` for what is refused at once.
        """
        model.check(request)
        frame = request.frame
        pinned = request.cloud_level
        if self._running is None and not self._queue.requests:
            level = self._ladder.of(model)[self._controller.level] if pinned is None else pinned
            expected_s = model.costs.batch_s(frame.level, level, frame.samples)
            if expected_s <= INLINE_S and (remaining_s is None or expected_s <= remaining_s):
                return self._answer_now(model, request, level)
        key = Key(model, frame.level, pinned)
        self._offered[key] = self._offered.get(key, 0) + frame.samples
        item = self._admit(key, request, client, remaining_s, then)
        self._queue.put(item)
        self._observe()
        if self._running is None:
            self._start()
        return item

    def withdraw(self, item: QueuedRequest) -> None:
        """Nobody waits for ``item`` any more."""
        self._queue.drop(item)

    def tick(self, busy: float) -> None:
        """To be called now and then: ``busy`` is the event loop's share of its time at work."""
        self._busy = busy
        self._observe(force=True)
        load = self.load
        self._hints = Hints(round(load, 2)) if load >= LOADED else None

    def _answer_now(self, model: ServedModel, request: Request, level: int) -> Response:
        began_s = self._now()
        try:
            answers = model.answer(request, level)
        except RequestError:
            self._observer.refused("invalid")
            raise
        compute_s = self._now() - began_s
        self._done.append(_Done(model, request.frame, request.cloud_level, level, compute_s))
        if len(self._done) >= ACCOUNTED_AT:
            self.account()
        hints = self._hints and self._hint(request)
        return Response(request.id, answers, level, 0, int(compute_s * 1e6), None, hints)

    def account(self) -> None:
        """Count what was answered at once. In bulk: one by one it would cost as much as they."""
        for model, frame, pinned, level, compute_s in self._done:
            key = Key(model, frame.level, pinned)
            self._offered[key] = self._offered.get(key, 0) + frame.samples
            model.costs.learn(frame.level, level, frame.samples, compute_s)
            self._observer.batch(model, level, frame.samples, compute_s)
            self._observer.answered(0.0, compute_s)
        self._done.clear()

    def _admit(
        self,
        key: Key,
        request: Request,
        client: str,
        remaining_s: float | None,
        then: Callable[[Response | RequestError], object],
    ) -> QueuedRequest:
        now_s = self._now()
        narrowest = self._ladder.of(key.model)[0] if key.pinned is None else key.pinned
        samples = request.frame.samples
        own = self._queue.client_samples(client)
        waiting = Waiting(
            samples=self._queue.samples,
            client_samples=own,
            clients=self._queue.clients - (1 if own else 0),
            delay_s=self._delays_s(now_s)[0],
        )
        compute_s = key.model.costs.batch_s(key.level, narrowest, samples)
        reason = refusal(waiting, self._limits, samples, compute_s, remaining_s)
        if reason is None:
            deadline_s = NEVER_S if remaining_s is None else now_s + remaining_s
            return Item(key, client, samples, now_s, deadline_s, Ticket(request, then))
        self._observer.refused(reason.value)
        self._observe()
        if reason is Refusal.LATE:
            raise LateError(
                f"deadline: cannot be met; {1000 * waiting.delay_s:.1f} ms of work wait"
            )
        wait_ms = pushback_ms(waiting)
        whose = "this client's share of the queue" if reason is Refusal.SHARE else "the queue"
        raise OverloadedError(f"server: {whose} is full; try again in {wait_ms} ms", wait_ms)

    def _delays_s(self, now_s: float) -> list[float]:
        """Seconds until everything that waits is done, at each fraction."""
        batch = self._running
        rest_s = 0.0 if batch is None else max(batch.ends_s - now_s, 0.0)
        delays = [rest_s] * len(self._ladder.fractions)
        for key, samples in self._queue.by_key():
            self._spread(delays, key, samples)
        return delays

    def _spread(self, sums: list[float], key: Key, samples: int) -> None:
        """Add the seconds of ``samples`` under ``key`` at each fraction to ``sums``."""
        costs = key.model.costs
        if key.pinned is not None:
            work_s = costs.batch_s(key.level, key.pinned, samples)
            for place in range(len(sums)):
                sums[place] += work_s
            return
        for place, level in enumerate(self._ladder.of(key.model)):
            sums[place] += costs.batch_s(key.level, level, samples)

    def _observe(self, force: bool = False) -> None:
        """Tell the controller what waits and what was asked for."""
        self.account()
        now_s = self._now()
        if force or now_s - self._observed_s >= OBSERVE_S:
            self._observed_s = now_s
            work = [0.0] * len(self._ladder.fractions)
            for key, samples in self._offered.items():
                self._spread(work, key, samples)
            self._offered.clear()
            self._demand.add(now_s, work)
        self._controller.update(now_s, self._delays_s(now_s), self._demand.shares(now_s))

    def _start(self) -> None:
        """Send the next batch to the compute thread, if anything waits."""
        now_s = self._now()
        while items := self._queue.take(now_s):
            key = items[0].key
            level = key.pinned
            if level is None:
                level = self._ladder.of(key.model)[self._controller.level]
            samples = sum(item.samples for item in items)
            expected_s = key.model.costs.batch_s(key.level, level, samples)
            in_time = [item for item in items if now_s + expected_s <= item.deadline_s]
            for item in items:
                if now_s + expected_s > item.deadline_s:
                    self._observer.refused(Refusal.LATE.value)
                    item.work.then(LateError("deadline: passed while the request waited"))
            if in_time:
                batch = _Batch(in_time, key, level, now_s + expected_s)
                self._running = batch
                self._thread.run(self._job(batch), partial(self._finish, batch))
                return

    def _job(self, batch: _Batch) -> Job:
        requests = [item.work.request for item in batch.items]

        def job() -> None:
            began_s = self._now()
            try:
                batch.outcomes = batch.key.model.compute(requests, batch.cloud_level)
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
                batch.error = error
            batch.compute_s = self._now() - began_s

        return job

    def _finish(self, batch: _Batch) -> None:
        self._running = None
        self._start()
        self._observe()
        model, level = batch.key.model, batch.cloud_level
        if batch.error is not None:
            failed = ServerFaultError(f"server: could not compute ({type(batch.error).__name__})")
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a batch failed", "exception": batch.error}
            )
            for item in batch.items:
                item.work.then(failed)
            return
        samples = sum(
            item.samples
            for item, outcome in zip(batch.items, batch.outcomes, strict=True)
            if not isinstance(outcome, RequestError)
        )
        if samples == sum(item.samples for item in batch.items):
            # A broken frame takes a time that says nothing of the samples that it claims.
            model.costs.learn(batch.key.level, level, samples, batch.compute_s)
        self._observer.batch(model, level, samples, batch.compute_s)
        compute_us = int(batch.compute_s * 1e6)
        now_s = self._now()
        for item, outcome in zip(batch.items, batch.outcomes, strict=True):
            if isinstance(outcome, RequestError):
                self._observer.refused("invalid")
                item.work.then(outcome)
                continue
            queue_s = now_s - item.arrived_s - batch.compute_s  # both hops included
            self._observer.answered(queue_s, batch.compute_s)
            request = item.work.request
            hints = self._hints and self._hint(request)
            item.work.then(
                Response(request.id, outcome, level, int(queue_s * 1e6), compute_us, None, hints)
            )

    def _hint(self, request: Request) -> Hints | None:
        """The load, and a lower device level if the cloud has nothing left to give up."""
        hints = self._hints
        if hints is None or hints.load < CROWDED or self._controller.level > 0:
            return hints
        return Hints(hints.load, max(request.frame.level - 1, 0))
