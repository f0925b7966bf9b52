"""``python -m tests.chaos``: run chaos with one seed or several in a row."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.benchmarks.harness import table
from tests.chaos.run import Outcome, run


def say(text: str) -> None:
    """Progress, for people."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stderr.flush()


def row(one: Outcome) -> tuple[str, ...]:
    """A line of the table."""
    samples, telemetry = one.samples, one.telemetry
    return (
        str(one.seed),
        f"{one.seconds:.0f}",
        str(one.events),
        str(one.starts),
        f"{samples.asked} ({samples.late})",
        f"{samples.missing} / {samples.double} / {samples.wrong}",
        str(telemetry.stored),
        f"{telemetry.lost} / {telemetry.duplicate}",
        "yes" if one.green else "NO",
    )


HEADS = (
    "seed", "s", "events", "starts", "samples (late)", "missing/double/wrong",
    "telemetry", "lost/double", "green",
)  # fmt: skip


def main() -> int:
    """Exit status 0 if every run was green."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="first seed (default: drawn, and printed)")
    parser.add_argument("--seconds", type=float, default=120, help="of trouble in each run")
    parser.add_argument("--runs", type=int, default=1, help="runs, each with the next seed")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    first = options.seed
    if first is None:
        first = random.SystemRandom().randrange(10**6)
    outcomes = []
    for seed in range(first, first + options.runs):
        folder = Path(tempfile.mkdtemp(prefix=f"taper-chaos-{seed}-"))
        outcome = asyncio.run(run(seed, options.seconds, folder, say))
        outcomes.append(outcome)
        say(f"seed {seed}: {'green' if outcome.green else f'NOT green, see {folder}'}")
        if outcome.green:
            shutil.rmtree(folder)
        for failure in outcome.samples.failures[:5]:
            say(failure)
    green = sum(one.green for one in outcomes)
    Console(width=120).print(
        table(f"{green} of {len(outcomes)} runs green", HEADS, map(row, outcomes))
    )
    if options.json:
        print(json.dumps({"green": green, "runs": [one.to_json() for one in outcomes]}))
    return 0 if green == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
