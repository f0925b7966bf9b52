"""The scheduler's limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SchedulerSettings:
    """Limits of the scheduler. Times are in seconds.

    max_batch    samples in a batch; also the most samples of other requests that may run before
                 the request that is next in turn
    max_delay_s  age at which a batch is computed before fuller ones
    objective_s  target for queueing and computing that 99 in 100 requests should meet
    max_queue    samples that may wait
    fraction     the cloud's fraction if it is fixed; None lets the load decide
    threads      threads that compute batches
    """

    max_batch: int = 32
    max_delay_s: float = 1e-3
    objective_s: float = 0.05
    max_queue: int = 8192
    fraction: float | None = None
    threads: int = 1
