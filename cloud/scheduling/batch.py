"""The computation of one batch: decode slices of jobs and run the cloud half on all of them.

A batch holds slices (ranges of samples) of jobs that share model, device level and cloud level.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cloud.models.job import Features, Job, Prediction
from cloud.models.served import ServedModel
from shared.errors import RequestError

if TYPE_CHECKING:
    from cloud.native import Batch, Queued, Slice

OnDone = Callable[[Prediction | RequestError], object]


class QueuedRequest(NamedTuple):
    """A job in the queue: its place there, its model, and the callback for its outcome."""

    place: Queued
    model: ServedModel
    job: Job
    on_done: OnDone


class Computation:
    """Computes ``batch``; ``requests[i]`` is the request that slice i belongs to.

    After ``run``, ``error`` is the exception that stopped the whole batch, None if there was none.
    A payload that cannot be decoded sets the error of its own job only.
    """

    def __init__(self, batch: Batch, requests: list[QueuedRequest]) -> None:
        self.batch = batch
        self.requests = requests
        self.slices: list[Slice] = batch.slices
        self.error: BaseException | None = None

    def run(self) -> None:
        """Decode and compute, in the compute thread; sets ``error`` instead of raising."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - all waiting callers must be answered
            self.error = error
            self.batch.fail()

    def _run(self) -> None:
        model = self.requests[0].model
        parts: list[Features] = []
        for one, request in zip(self.slices, self.requests, strict=True):
            job = request.job
            before_s = job.decode_s
            try:
                parts.append(model.features(job, one.start, one.stop))
            except RequestError as error:
                job.error = error
            wrong = job.error is not None
            self.batch.measure(job.decode_s - before_s, wrong, job.features is not None)
        if not parts:
            return
        features = parts[0] if len(parts) == 1 else np.concatenate(parts)
        began_s = time.perf_counter()
        logits = model.run(features, self.batch.level, self.batch.cloud_level)
        self.batch.ran(len(features), time.perf_counter() - began_s)
        at = 0
        for one, request in zip(self.slices, self.requests, strict=True):
            if request.job.error is None:
                request.job.keep(one.start, one.stop, logits[at : at + one.samples])
                at += one.samples
