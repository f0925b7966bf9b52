"""``python -m device.client``: classify images, lower layers here, upper layers in the cloud."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import shared.quiet_grpc  # noqa: F401  # isort: split
from device.cli.batch import Run, classify_until_signal
from device.cli.flags import CommandLine, parse
from device.policy.simple import Decision
from device.split.client import SplitClient
from device.split.sample import SampleResult
from shared.command import RED, run_command, say
from shared.errors import TaperError

if TYPE_CHECKING:
    from device.split.outbox import LateAnswer

MOST_REASONS = 1000  # latest decisions kept of a long run


def classify(line: CommandLine) -> None:
    """Classify the images that ``line`` names and print the answers."""
    reasons: deque[str] = deque(maxlen=MOST_REASONS)

    def on_decision(decision: Decision) -> None:
        reasons.append(decision.reason)
        if line.explain:
            say(decision.reason)

    on_late = print_late if line.output == "jsonl" else None
    client = SplitClient(line.settings, on_late=on_late, on_decision=on_decision)
    publisher = None
    receivers = [print_line] if line.output == "jsonl" else []
    if line.output == "table" and line.endless:
        from device.cli.report import print_live

        receivers.append(print_live)
    if line.publish is not None:
        from device.cli.publishing import Publisher

        publisher = Publisher(line.publish, line.settings, line.certificates)
        receivers.append(publisher.send)
    run = Run(client, line, receivers, publisher)
    with writable_output():
        asyncio.run(classify_until_signal(run))
        finish(run, reasons)
        sys.stdout.flush()
    if run.signal:
        sys.exit(128 + run.signal)  # the shells' convention for signals


def finish(run: Run, reasons: Iterable[str]) -> None:
    """Print the results, then raise the failure that ended the run, if any."""
    from device.cli.report import print_table, to_json

    run.results.sort(key=lambda result: result.index)
    names, output = run.names, run.line.output
    summary = run.summary(tuple(reasons))
    if output == "table":
        print_table(run.results, names, summary)
    elif output == "json":
        sys.stdout.write(to_json(run.results, names, summary) + "\n")
    if hasattr(run, "pictures"):
        run.print_notes()
    if run.waiting:
        say(f"note: {run.waiting} samples wait in the spool")
    if run.failure is not None:
        answered = f"; {run.tally.answered} of {run.total} samples answered" if run.total else ""
        raise type(run.failure)(f"{run.failure}{answered}")


@contextmanager
def writable_output() -> Iterator[None]:
    """Report a failure to write the output, e.g. a full disk or closed pipe, in one line."""
    try:
        yield
    except BrokenPipeError:
        discard_output()
        say("error: the output was closed by its reader", RED)
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        discard_output()
        raise TaperError(f"the output cannot be written ({error.strerror})") from None


def discard_output() -> None:
    """Redirect standard output to nowhere, since Python's final flush would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_line(result: SampleResult, name: str) -> None:
    """Print one result as a line of JSON."""
    from device.cli.report import sample_json

    sys.stdout.write(json.dumps(sample_json(result, name)) + "\n")
    sys.stdout.flush()  # a reader may react to each line


def print_late(answer: LateAnswer) -> None:
    """Print the cloud's answer to a sample from the spool as a line of JSON."""
    from device.cli.report import late_json

    sys.stdout.write(json.dumps(late_json(answer)) + "\n")
    sys.stdout.flush()


class _Notes(logging.Handler):
    """Writes the library's warnings to standard error as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"note: {record.getMessage()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    logging.getLogger().handlers[:] = [_Notes(logging.WARNING)]
    run_command(lambda words: classify(parse(words)), arguments)


if __name__ == "__main__":
    main()
