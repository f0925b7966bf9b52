"""The scheduler's limits, and who counts what it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cloud.models.served import ServedModel


class Observer(Protocol):
    """Counts batches, answers and refusals; see ``cloud.observability.metrics``."""

    def batch(self, model: ServedModel, cloud_level: int, samples: int, compute_s: float) -> None:
        """Count a batch that was computed."""

    def answered(self, queue_s: float, compute_s: float) -> None:
        """Count an answered request and its latency."""

    def ran_at_once(
        self, model: ServedModel, cloud_level: int, samples: int, seconds: Sequence[float]
    ) -> None:
        """Count requests of ``samples`` each that never waited, by their ``seconds``."""

    def refused(self, reason: str) -> None:
        """Count a request that was refused."""


@dataclass(frozen=True)
class SchedulerSettings:
    """Limits of the scheduler. Times are seconds.

    max_batch    samples that run together, and the most that a request waits for of others' while
                 it is the next in turn
    max_delay_s  after this long a batch goes before fuller ones
    objective_s  of queue and compute, for 99 in 100 requests
    max_queue    samples that may wait
    fraction     the cloud's fraction, if it is fixed
    """

    max_batch: int = 32
    max_delay_s: float = 1e-3
    objective_s: float = 0.05
    max_queue: int = 8192
    fraction: float | None = None
