"""``python -m device.client``: classify images, lower layers here, upper layers in the cloud."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import shared.quiet_grpc  # noqa: F401  # isort: split
from device.cli.batch import Run, classify_all
from device.cli.flags import Options, parse
from device.policy.simple import Decision
from device.split.client import SplitClient
from device.split.sample import SampleResult
from shared.errors import TaperError

if TYPE_CHECKING:
    from device.split.outbox import LateAnswer


def classify(options: Options) -> None:
    """Classify the images that ``options`` name and print the answers."""
    lines = options.output == "jsonl"
    reasons: list[str] = []

    def on_decision(decision: Decision) -> None:
        reasons.append(decision.reason)
        if options.explain:
            say(decision.reason)

    settings = options.settings
    run = Run(
        SplitClient(settings, on_late=print_late if lines else None, on_decision=on_decision),
        options.images,
        options.labels,
        options.in_flight,
        settings.wait_s,
        print_line if lines else None,
        say,
    )
    asyncio.run(classify_all(run))
    finish(run, options.output, reasons)


def finish(run: Run, output: str, reasons: Sequence[str]) -> None:
    """Print what was found, then raise the failure that ended the run, if there was one."""
    from device.cli.report import print_table, summarise, to_json

    run.results.sort(key=lambda result: result.index)
    names = run.pictures.names
    summary = summarise(run.results, len(names), run.labels, run.spooled, run.late, reasons)
    if output == "table":
        print_table(run.results, names, summary)
    elif output == "json":
        sys.stdout.write(to_json(run.results, names, summary) + "\n")
    if run.waiting:
        say(f"note: {run.waiting} samples wait in the spool")
    if run.failure is not None:
        answered = f"{len(run.results)} of {len(names)} samples answered"
        raise type(run.failure)(f"{run.failure}; {answered}")


def print_line(result: SampleResult, name: str) -> None:
    """One result as a line of JSON."""
    from device.cli.report import sample_json

    sys.stdout.write(json.dumps(sample_json(result, name)) + "\n")


def print_late(answer: LateAnswer) -> None:
    """The cloud's answer to a sample of the spool, as a line of JSON."""
    from device.cli.report import late_json

    sys.stdout.write(json.dumps(late_json(answer)) + "\n")


def say(text: str, style: str = "") -> None:
    """One line on standard error, coloured where that is a terminal."""
    if style and sys.stderr.isatty():
        text = f"\x1b[{style}m{text}\x1b[0m"
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class _Notes(logging.Handler):
    """Warnings of the library, as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"note: {record.getMessage()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    logging.getLogger().handlers[:] = [_Notes(logging.WARNING)]
    try:
        classify(parse(arguments))
    except TaperError as error:
        say(f"error: {error}", "31")
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the results has gone; Python would complain once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
