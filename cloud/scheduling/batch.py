"""One batch on its way through the compute thread: slices of jobs of one key."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cloud.models.job import Job, Prediction
from cloud.scheduling.fair_queue import Item, Slice
from cloud.scheduling.load import Key
from shared.errors import RequestError

OnDone = Callable[[Prediction | RequestError], object]


class Waiting(NamedTuple):
    """A job in the queue, and who receives its outcome."""

    job: Job
    on_done: OnDone


QueuedRequest = Item[Key, Waiting]


@dataclass(eq=False)
class Batch:
    """The slices of a batch, and what came of it.

    ends_s    when it is predicted to be done
    computed  samples whose payload could be decoded
    run_s     measured, without decoding
    seconds   measured, for each slice
    error     why it could not be computed
    passed_s  seconds of work that ran at once meanwhile, by client
    """

    key: Key
    slices: list[Slice[Key, Waiting]]
    cloud_level: int
    ends_s: float
    computed: int = 0
    run_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    error: BaseException | None = None
    passed_s: dict[str, float] = field(default_factory=dict)

    def may_pass(self, client: str) -> bool:
        """Whether a request of ``client`` may run at once, beside this batch of others."""
        clients = {one.item.client for one in self.slices}
        if client in clients:
            return False
        share_s = sum(one.predicted_s for one in self.slices) / len(clients)
        return self.passed_s.get(client, 0.0) < share_s

    def passed(self, client: str, seconds: float) -> None:
        """Count work that ran at once."""
        self.passed_s[client] = self.passed_s.get(client, 0.0) + seconds

    def compute(self) -> None:
        """Decode and run, in the compute thread. Sets ``error``, never raises."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - whoever waits has to hear of it
            self.error = error

    def _run(self) -> None:
        model = self.key.model
        parts = []
        for one in self.slices:
            job = one.item.work.job
            before_s = job.compute_s
            try:
                parts.append(model.features(job, one.start, one.stop))
            except RequestError as error:
                job.error = error
            self.seconds.append(job.compute_s - before_s)
        if not parts:
            return
        features = parts[0] if len(parts) == 1 else np.concatenate(parts)
        began_s = time.perf_counter()
        logits = model.run(features, self.key.level, self.cloud_level)
        self.run_s = time.perf_counter() - began_s
        self.computed = len(features)
        at = 0
        for place, one in enumerate(self.slices):
            job = one.item.work.job
            if job.error is None:
                job.keep(one.start, one.stop, logits[at : at + one.samples])
                at += one.samples
                self.seconds[place] += self.run_s * one.samples / self.computed
                job.compute_s += self.run_s
