"""The output of the client: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from device.split.sample import SampleResult

if TYPE_CHECKING:
    from device.split.outbox import LateAnswer

LONGEST_LIST = 20  # a table of more samples than this shows only the summary


@dataclass(frozen=True)
class Summary:
    """Totals of one run.

    accuracy      share of right answers; None without labels or answers
    latencies     None without answers
    kept          answered here, and waiting in the spool for the cloud's answer too
    spooled       waiting in the spool without an answer
    late_answers  to samples of the spool, those of earlier runs included
    decisions     of the policy, one line each
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


def summarise(
    results: Sequence[SampleResult],
    samples: int,
    labels: Sequence[int | None],
    spooled: int = 0,
    late_answers: int = 0,
    decisions: Sequence[str] = (),
) -> Summary:
    """Totals of ``results``, the answers to some or all of ``samples`` images."""
    latencies = [result.latency_ms for result in results]
    known = [result for result in results if labels[result.index] is not None]
    accuracy = None
    if known:
        accuracy = float(np.mean([result.label == labels[result.index] for result in known]))
    return Summary(
        samples=samples,
        answered=len(results),
        fractions=tuple(sorted({result.fraction for result in results})),
        channels=tuple(sorted({result.channels for result in results})),
        cloud_fractions=tuple(sorted({result.cloud_fraction for result in results})),
        mean_payload_bytes=float(np.mean([r.payload_bytes for r in results] or [0])),
        accuracy=accuracy,
        median_latency_ms=float(np.median(latencies)) if latencies else None,
        p99_latency_ms=float(np.percentile(latencies, 99)) if latencies else None,
        sources=dict(Counter(result.source for result in results)),
        kept=sum(result.kept for result in results),
        spooled=spooled,
        late_answers=late_answers,
        decisions=tuple(decisions),
    )


def print_table(results: Sequence[SampleResult], names: Sequence[str], summary: Summary) -> None:
    """Print a table of the samples, if they are few, and one of the totals."""
    # Here, since a device that prints JSON need not load them.
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if len(results) <= LONGEST_LIST:
        table = Table("input", "answer", "fraction", "bytes", "latency", "source")
        for result in results:
            table.add_row(
                escape(names[result.index]),
                escape(result.class_name),
                f"{result.fraction:g}",
                str(result.payload_bytes),
                f"{result.latency_ms:.2f} ms",
                result.source,
            )
        console.print(table)
    table = Table(title=f"{summary.answered} of {summary.samples} samples answered")
    for heading in SUMMARY_COLUMNS:
        table.add_column(heading, justify="right")
    table.add_row(*summary_row(summary))
    console.print(table)


SUMMARY_COLUMNS = (
    "fraction",
    "channels sent",
    "bytes per image",
    "accuracy",
    "median latency",
    "p99 latency",
    "source",
)


def summary_row(summary: Summary) -> list[str]:
    """The cells of ``SUMMARY_COLUMNS``."""
    return [
        ", ".join(f"{fraction:g}" for fraction in summary.fractions),
        ", ".join(str(channels) for channels in summary.channels),
        f"{summary.mean_payload_bytes:.1f}",
        "unknown" if summary.accuracy is None else f"{summary.accuracy:.1%}",
        milliseconds(summary.median_latency_ms),
        milliseconds(summary.p99_latency_ms),
        ", ".join(f"{source} {count}" for source, count in summary.sources.items()),
    ]


def milliseconds(value: float | None) -> str:
    """A latency for people."""
    return "unknown" if value is None else f"{value:.2f} ms"


def to_json(results: Sequence[SampleResult], names: Sequence[str], summary: Summary) -> str:
    """One JSON object with every sample and the summary."""
    rows = [sample_json(result, names[result.index]) for result in results]
    return json.dumps({"samples": rows, "summary": asdict(summary)})


def sample_json(result: SampleResult, name: str) -> dict[str, Any]:
    """One sample as a JSON value."""
    return {"input": name, **asdict(result)}


def late_json(answer: LateAnswer) -> dict[str, Any]:
    """The cloud's answer to a sample of the spool as a JSON value."""
    return {"source": "cloud", "late": True, **asdict(answer)}
