"""Format the client's output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from device.cli.tally import Summary
from device.split.sample import SampleResult

if TYPE_CHECKING:
    from device.split.outbox import LateAnswer


def print_table(results: Sequence[SampleResult], names: Sequence[str], summary: Summary) -> None:
    """Print a line for every sample, and a table of the totals."""
    if results:
        sys.stdout.writelines(f"{line}\n" for line in sample_lines(results, names))
    print_totals(summary)


def print_totals(summary: Summary) -> None:
    """Print a table of the totals."""
    # Imported here, since a device that prints JSON does not need them.
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{summary.answered} of {summary.samples} samples answered")
    cells = dict(zip(SUMMARY_COLUMNS, summary_row(summary), strict=True))
    if summary.mean_looks > 1:
        cells["looks"] = f"{summary.mean_looks:.2f}"
    for heading in cells:
        table.add_column(heading, justify="right")
    table.add_row(*cells.values())
    Console().print(table)


SAMPLE_COLUMNS = ("input", "answer", "confidence", "source", "fraction", "bytes", "latency")
LEFT_COLUMNS = ("input", "answer", "source", "candidates")


def sample_lines(results: Sequence[SampleResult], names: Sequence[str]) -> list[str]:
    """Return the samples as lines of aligned columns with headings."""
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


LIVE_WIDTHS = (28, 10, 10, 17, 8, 6, 10)


def print_live(result: SampleResult, name: str) -> None:
    """Print the line of one sample immediately, in columns of fixed width."""
    if result.index == 0:
        print_cells((*SAMPLE_COLUMNS, ""))
    print_cells(sample_row(result, name))


def print_cells(cells: Sequence[str]) -> None:
    """Print a line of columns of fixed width; the last may be longer."""
    *fixed, last = cells
    columns = zip(fixed, SAMPLE_COLUMNS, LIVE_WIDTHS, strict=True)
    words = [
        cell.ljust(width) if heading in LEFT_COLUMNS else cell.rjust(width)
        for cell, heading, width in columns
    ]
    sys.stdout.write("  ".join((*words, last)).rstrip() + "\n")
    sys.stdout.flush()


def sample_row(result: SampleResult, name: str) -> tuple[str, ...]:
    """Return the cells of one sample: those of ``SAMPLE_COLUMNS``, then its candidates."""
    return (
        "".join(letter if letter.isprintable() else "?" for letter in name),
        result.class_name,
        "unknown" if result.confidence is None else f"{result.confidence:.1%}",
        f"{result.source}, first look" if result.first_look else result.source,
        ":".join(f"{fraction:g}" for fraction in result.looks),
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
    """Return the cells of ``SUMMARY_COLUMNS``."""
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
    """Format a latency."""
    return "unknown" if value is None else f"{value:.2f} ms"


def to_json(results: Sequence[SampleResult], names: Sequence[str], summary: Summary) -> str:
    """Return a JSON object with every sample and the summary."""
    rows = [sample_json(result, names[result.index]) for result in results]
    return json.dumps({"samples": rows, "summary": asdict(summary)})


def sample_json(result: SampleResult, name: str) -> dict[str, Any]:
    """Return one sample as a JSON value."""
    return {"input": name, **asdict(result)}


def late_json(answer: LateAnswer) -> dict[str, Any]:
    """Return the cloud's answer to a sample from the spool as a JSON value."""
    return {"source": "cloud", "late": True, **asdict(answer)}
