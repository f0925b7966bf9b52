"""The output of the client: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from device.split.sample import SampleResult

if TYPE_CHECKING:
    from device.split.outbox import LateAnswer


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
    """Print a line for every sample, and a table of the totals."""
    # Here, since a device that prints JSON need not load them.
    from rich.console import Console
    from rich.table import Table

    sys.stdout.writelines(f"{line}\n" for line in sample_lines(results, names))
    table = Table(title=f"{summary.answered} of {summary.samples} samples answered")
    for heading in SUMMARY_COLUMNS:
        table.add_column(heading, justify="right")
    table.add_row(*summary_row(summary))
    Console().print(table)


SAMPLE_COLUMNS = ("input", "answer", "confidence", "source", "fraction", "bytes", "latency")
LEFT_COLUMNS = ("input", "answer", "source", "candidates")


def sample_lines(results: Sequence[SampleResult], names: Sequence[str]) -> list[str]:
    """The samples as lines of aligned columns, headed by their names."""
    candidates = any(result.candidates for result in results)
    headings = (*SAMPLE_COLUMNS, "candidates") if candidates else SAMPLE_COLUMNS
    rows = [headings, *(sample_row(result, names[result.index]) for result in results)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(headings))]
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if heading in LEFT_COLUMNS else cell.rjust(width)
            for cell, heading, width in zip(row, headings, widths, strict=False)
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def sample_row(result: SampleResult, name: str) -> tuple[str, ...]:
    """The cells of one sample: those of ``SAMPLE_COLUMNS``, and its candidates."""
    return (
        "".join(letter if letter.isprintable() else "?" for letter in name),
        result.class_name,
        "unknown" if result.confidence is None else f"{result.confidence:.1%}",
        result.source,
        f"{result.fraction:g}",
        str(result.payload_bytes),
        f"{result.latency_ms:.2f} ms",
        ", ".join(f"{label}: {chance:.1%}" for label, chance in result.candidates),
    )


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
