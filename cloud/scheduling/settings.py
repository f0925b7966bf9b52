"""The scheduler's limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SchedulerSettings:
    """Limits of the scheduler. Times are seconds.

    max_batch    samples that run together, and the most that a request waits for of others' while
                 it is the next in turn
    max_delay_s  after this long a batch goes before fuller ones
    objective_s  of queue and compute, for 99 in 100 requests
    max_queue    samples that may wait
    fraction     the cloud's fraction, if it is fixed
    threads      that compute batches
    """

    max_batch: int = 32
    max_delay_s: float = 1e-3
    objective_s: float = 0.05
    max_queue: int = 8192
    fraction: float | None = None
    threads: int = 1
