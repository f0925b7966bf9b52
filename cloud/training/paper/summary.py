"""Summarise the runs of a line: mean and spread over seeds, interval, and tables of these."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from cloud.training.intervals import wilson
from cloud.training.paper.curve import Runs


@dataclass(frozen=True)
class Share:
    """The accuracy of a line at one fraction.

    ``low`` and ``high`` are the Wilson interval (95%) of the mean over the test images. ``spread``
    is the standard deviation over seeds; None with a single seed.
    """

    mean: float
    low: float
    high: float
    spread: float | None
    seeds: int

    @property
    def band(self) -> tuple[float, float]:
        """The interval, or one standard deviation to either side where that reaches further."""
        spread = self.spread or 0.0
        return min(self.low, self.mean - spread), max(self.high, self.mean + spread)

    def __str__(self) -> str:
        """Format as percent: "97.52 ± 0.12 [97.2, 97.8]"; without spread for a single seed."""
        spread = "" if self.spread is None else f" ± {100 * self.spread:.2f}"
        return f"{100 * self.mean:.2f}{spread} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def share(runs: Runs, evaluation: str, index: int) -> Share | None:
    """Return the accuracy at point ``index`` over all seeds; None if no run was so evaluated."""
    chosen = [run for run in runs if evaluation in run.points[index].accuracy]
    if not chosen:
        return None
    values = [run.points[index].accuracy[evaluation] for run in chosen]
    mean = statistics.fmean(values)
    low, high = wilson(mean, chosen[0].test_images)
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Share(mean, low, high, spread, len(values))


def summaries(results: Mapping[str, Runs]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return the accuracies by line, evaluation and point, as plain values for JSON."""
    return {
        line: {
            evaluation: [
                {"fraction": point.fraction, **asdict(found)}
                for index, point in enumerate(runs[0].points)
                if (found := share(runs, evaluation, index))
            ]
            for evaluation in dict.fromkeys(name for run in runs for name in run.evaluations)
        }
        for line, runs in results.items()
    }


def table_rows(results: Mapping[str, Runs], evaluation: str) -> list[list[str]]:
    """Return rows of text: headings, then for each fraction channels, operations and all lines.

    Lines without this evaluation are left out; there are no rows if none has it. A line that has
    it for some of its seeds only says so in its heading.
    """
    lines = {
        line: runs
        for line, runs in results.items()
        if any(evaluation in run.evaluations for run in runs)
    }
    if not lines:
        return []
    first = next(iter(lines.values()))[0]
    headings = []
    for line, runs in lines.items():
        count = sum(evaluation in run.evaluations for run in runs)
        headings.append(line if count == len(runs) else f"{line} ({count} of {len(runs)} seeds)")
    rows = [["channels", "operations", *headings]]
    for index, point in enumerate(first.points):
        cells = [str(share(runs, evaluation, index)) for runs in lines.values()]
        operations = f"{point.macs / first.points[-1].macs:.1%}"
        rows.append([f"{point.fraction:.0%}", operations, *cells])
    return rows


def seeds_note(results: Mapping[str, Runs]) -> str:
    """Describe how many seeds lines have: "3 seeds: standard, linear; 1 seed: sandwich"."""
    by_count: dict[int, list[str]] = {}
    for line, runs in results.items():
        by_count.setdefault(len(runs), []).append(line)
    parts = [
        f"{count} seed{'s' if count > 1 else ''}: {', '.join(lines)}"
        for count, lines in sorted(by_count.items(), reverse=True)
    ]
    return "; ".join(parts)


def as_table(title: str, rows: list[list[str]]) -> Table:
    """Format rows as a table for a terminal."""
    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading, justify="right")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def as_markdown(rows: list[list[str]]) -> str:
    """Format rows as a Markdown table."""
    ruled = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in ruled)
