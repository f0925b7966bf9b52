"""``python -m device.client``: classify images, lower layers here, upper layers in the cloud."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import shared.quiet_grpc  # noqa: F401  # isort: split
from device.cli.batch import Run, classify_until_signal
from device.cli.flags import CommandLine, parse
from device.policy.simple import Decision
from device.split.client import SplitClient
from device.split.sample import SampleResult
from shared.command import run_command, say
from shared.errors import TaperError

if TYPE_CHECKING:
    from device.split.outbox import LateAnswer


def classify(line: CommandLine) -> None:
    """Classify the images that ``line`` name and print the answers."""
    lines = line.output == "jsonl"
    reasons: list[str] = []

    def on_decision(decision: Decision) -> None:
        reasons.append(decision.reason)
        if line.explain:
            say(decision.reason)

    settings = line.settings
    run = Run(
        SplitClient(settings, on_late=print_late if lines else None, on_decision=on_decision),
        line.sources,
        line.labels,
        line.in_flight,
        settings.wait_s,
        print_line if lines else None,
        say,
        line.changes,
    )
    with writable_output():
        asyncio.run(classify_until_signal(run))
        finish(run, line.output, reasons)
        sys.stdout.flush()
    if run.signal:
        sys.exit(128 + run.signal)  # as shells report a signal


def finish(run: Run, output: str, reasons: Sequence[str]) -> None:
    """Print the results, then raise the failure that ended the run, if there was one."""
    from device.cli.report import print_table, summarise, to_json

    run.results.sort(key=lambda result: result.index)
    names = run.names
    summary = summarise(run.results, len(names), run.labels, run.spooled, run.late, reasons)
    if output == "table":
        print_table(run.results, names, summary)
    elif output == "json":
        sys.stdout.write(to_json(run.results, names, summary) + "\n")
    if hasattr(run, "pictures"):
        run.say_notes()
    if run.waiting:
        say(f"note: {run.waiting} samples wait in the spool")
    if run.failure is not None:
        answered = f"{len(run.results)} of {run.total} samples answered"
        raise type(run.failure)(f"{run.failure}; {answered}")


@contextmanager
def writable_output() -> Iterator[None]:
    """Turn a failure to write the output, such as a full disk, into one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise TaperError(f"the output cannot be written ({error.strerror})") from None


def discard_output() -> None:
    """Let Python's last flush go nowhere: it would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_line(result: SampleResult, name: str) -> None:
    """One result as a line of JSON."""
    from device.cli.report import sample_json

    sys.stdout.write(json.dumps(sample_json(result, name)) + "\n")
    sys.stdout.flush()  # whoever reads the lines acts on them


def print_late(answer: LateAnswer) -> None:
    """The cloud's answer to a sample of the spool, as a line of JSON."""
    from device.cli.report import late_json

    sys.stdout.write(json.dumps(late_json(answer)) + "\n")
    sys.stdout.flush()


class _Notes(logging.Handler):
    """Writes warnings of the library to standard error, as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"note: {record.getMessage()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    logging.getLogger().handlers[:] = [_Notes(logging.WARNING)]
    run_command(lambda words: classify(parse(words)), arguments)


if __name__ == "__main__":
    main()
