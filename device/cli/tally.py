"""Totals of a run, counted answer by answer in constant memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from device.split.sample import SampleResult

LATENCIES = 100_000  # latest latencies, from which median and percentile are computed


@dataclass(frozen=True)
class Summary:
    """Totals of one run. Latencies are None without answers.

    accuracy      share of right answers; None without labels or answers
    mean_looks    mean number of looks at a sample
    first_looks   answers from the first look because the second got none
    refused_looks servers' requests for second looks that were refused, by reason
    kept          samples answered here that also wait in the spool for the cloud's answer
    spooled       samples without an answer that wait in the spool
    late_answers  answers to samples from the spool, including those of earlier runs
    decisions     the policy's decisions, one line each
    dropped       pictures of live inputs that arrived faster than they were answered
    unchanged     pictures of live inputs that were skipped because they hardly differed
    """

    samples: int
    answered: int
    fractions: tuple[float, ...]
    channels: tuple[int, ...]
    cloud_fractions: tuple[float, ...]
    mean_payload_bytes: float
    accuracy: float | None
    median_latency_ms: float | None
    p99_latency_ms: float | None
    sources: dict[str, int]
    kept: int = 0
    spooled: int = 0
    late_answers: int = 0
    decisions: tuple[str, ...] = ()
    dropped: int = 0
    unchanged: int = 0
    mean_looks: float = 0.0
    first_looks: int = 0
    refused_looks: dict[str, int] = field(default_factory=dict)


class Tally:
    """Counts the answers of a run."""

    def __init__(self) -> None:
        self.answered = 0
        self._fractions: set[float] = set()
        self._channels: set[int] = set()
        self._cloud_fractions: set[float] = set()
        self._payload_bytes = 0
        self._labelled = 0
        self._right = 0
        self._kept = 0
        self._looks = 0
        self._first_looks = 0
        self._sources: Counter[str] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES)

    def add(self, result: SampleResult, label: int | None) -> None:
        """Count one answer; ``label`` is the true class if it is known."""
        self.answered += 1
        self._fractions.add(result.fraction)
        self._channels.add(result.channels)
        self._cloud_fractions.add(result.cloud_fraction)
        self._payload_bytes += result.payload_bytes
        self._kept += result.kept
        self._looks += len(result.looks)
        self._first_looks += result.first_look
        self._sources[result.source] += 1
        self._latencies_ms.append(result.latency_ms)
        if label is not None:
            self._labelled += 1
            self._right += result.label == label

    def summary(
        self,
        samples: int,
        spooled: int = 0,
        late_answers: int = 0,
        decisions: Sequence[str] = (),
        passed_over: tuple[int, int] = (0, 0),
        refused_looks: Mapping[str, int] | None = None,
    ) -> Summary:
        """Return the totals of the answers to ``samples`` images, some of which may have none.

        ``passed_over`` is the number of dropped pictures and of pictures that had hardly changed.
        """
        latencies_ms = self._latencies_ms
        return Summary(
            samples=samples,
            answered=self.answered,
            fractions=tuple(sorted(self._fractions)),
            channels=tuple(sorted(self._channels)),
            cloud_fractions=tuple(sorted(self._cloud_fractions)),
            mean_payload_bytes=self._payload_bytes / max(self.answered, 1),
            accuracy=self._right / self._labelled if self._labelled else None,
            median_latency_ms=float(np.median(latencies_ms)) if latencies_ms else None,
            p99_latency_ms=float(np.percentile(latencies_ms, 99)) if latencies_ms else None,
            sources=dict(self._sources),
            kept=self._kept,
            spooled=spooled,
            late_answers=late_answers,
            decisions=tuple(decisions),
            dropped=passed_over[0],
            unchanged=passed_over[1],
            mean_looks=self._looks / max(self.answered, 1),
            first_looks=self._first_looks,
            refused_looks=dict(refused_looks or {}),
        )
