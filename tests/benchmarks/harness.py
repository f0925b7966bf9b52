"""Shared by all benchmarks: pinning to a CPU, interleaved timing, tables and a line of JSON.

A benchmark is a module with a ``run(full) -> Report``, whose command line is ``main``. Every
subject is measured once in each round, as the best of a few short slices, since other processes may
take time from a slice. A ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from shared.packed.__main__ import cpu_name

Subject = Callable[[int], float]  # number of calls -> seconds of one call
ROUNDS = 11
SLICES = 4
SECONDS_A_ROUND = 0.012


@dataclass(frozen=True)
class Check:
    """A measured value and its target; ``value`` is None if it could not be measured."""

    name: str
    value: float | None
    unit: str
    target: float
    better: Literal["higher", "lower"]

    @property
    def met(self) -> bool:
        """Return whether the value reaches the target."""
        if self.value is None:
            return False
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


@dataclass
class Report:
    """The result of a benchmark: raw medians, checks, and tables to print."""

    results: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def pin(cpu: int | None = None) -> int | None:
    """Pin this process to one CPU (by default the last that it may use) and return its number."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    chosen = max(os.sched_getaffinity(0)) if cpu is None else cpu
    os.sched_setaffinity(0, {chosen})
    return chosen


def calls(function: Callable[[], Any]) -> Subject:
    """Time a Python callable, including the loop's own cost (some tens of nanoseconds)."""

    def seconds(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            function()
        return (time.perf_counter() - begin) / count

    return seconds


def interleaved(
    subjects: Mapping[str, Subject], rounds: int = ROUNDS, seconds: float = SECONDS_A_ROUND
) -> dict[str, list[float]]:
    """Return the seconds of a call, by subject and round; a measurement takes about ``seconds``."""
    counts = {}
    for name, subject in subjects.items():
        subject(1)  # warm up
        once = max(min(subject(3), subject(3)), 1e-8)
        counts[name] = max(1, int(seconds / SLICES / once))
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            times[name].append(min(subject(counts[name]) for _ in range(SLICES)))
    return times


def ratio(above: Iterable[float], below: Iterable[float]) -> float:
    """Return the median over the rounds of ``above`` divided by ``below``."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def best_of(*candidates: list[float]) -> list[float]:
    """Return the candidate with the smallest median."""
    return min(candidates, key=statistics.median)


def microseconds(times: list[float]) -> float:
    """Return the median in microseconds."""
    return round(statistics.median(times) * 1e6, 3)


def machine(cpu: int | None) -> dict[str, Any]:
    """Describe the machine on which the numbers were measured."""
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "pinned_to": cpu,
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def main(benchmark: str, description: str, run: Callable[[bool], Report]) -> None:
    """Run a benchmark's command line: prints tables, and with --json a last line of JSON."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{benchmark}", description=description
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--full", action="store_true", help="measure everything; takes minutes")
    parser.add_argument("--cpu", type=int, help="CPU to pin to (default: the last)")
    options = parser.parse_args()
    cpu = pin(options.cpu)
    begin = time.monotonic()
    report = run(options.full)
    show(benchmark, report, time.monotonic() - begin, cpu, options.json)


def show(benchmark: str, report: Report, seconds: float, cpu: int | None, as_json: bool) -> None:
    """Print the report's tables and, if ``as_json``, its line of JSON."""
    elapsed = round(seconds, 1)
    console = Console(width=110)
    for table in (*report.tables, _check_table(report.checks)):
        console.print(table)
    console.print(f"{machine(cpu)['cpu']}, CPU {cpu}, {elapsed} s")
    if as_json:
        document = {
            "benchmark": benchmark,
            "machine": machine(cpu),
            "seconds": elapsed,
            "results": report.results,
            "checks": [asdict(check) for check in report.checks],
        }
        print(json.dumps(document))


def table(title: str, headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Make a plain table, whose first column is text and the others numbers."""
    made = Table(title=title, box=box.SIMPLE_HEAVY, title_justify="left")
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def _check_table(checks: list[Check]) -> Table:
    rows = []
    for check in checks:
        value = "not measured" if check.value is None else f"{check.value:.3g}"
        sign = ">=" if check.better == "higher" else "<="
        verdict = "yes" if check.met else "no"
        rows.append((check.name, value, f"{sign} {check.target:g}", check.unit, verdict))
    return table("checks", ("check", "value", "target", "unit", "met"), rows)
