"""``python -m device.client``: classify images, lower layers here, upper layers in the cloud."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from device.batch import Run, classify_all
from device.channel import Security
from device.clock import parse_duration
from device.hardware import HARDWARE, PI_WIFI, WATT_HOUR_J, find_hardware
from device.policy import Decision
from device.sample import SampleResult
from device.settings import AUTO, ModelSettings, Settings, SpoolSettings
from device.split import SplitClient
from shared.bundles import DEFAULT_MODEL
from shared.errors import TaperError, UsageError

if TYPE_CHECKING:
    from device.outbox import LateAnswer

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


class Output(str, Enum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


@app.command()
def classify(
    fraction: Annotated[
        str,
        typer.Option(
            help="Share of the channels that the device computes and sends: a number above 0 and "
            "up to 1, or **auto**, **linear**, **step**. **auto** plans for --lifetime or "
            "--min-accuracy; without either it follows the battery."
        ),
    ] = AUTO,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="Cloud server, HOST:PORT; may be repeated, the next is used when one fails. "
            "Default: localhost:50051."
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Image file, folder of images, IDX file (.gz too), .npy, or - for an image on "
            "standard input. Default: the shipped sample of 200 MNIST test digits.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="True labels of --input (IDX or .npy), for the accuracy.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Shipped bundle by name, or a bundle file.")
    ] = DEFAULT_MODEL,
    model_from_server: Annotated[
        bool,
        typer.Option(help="Fetch the device's part of --model from the server, follow updates."),
    ] = False,
    model_folder: Annotated[
        Path | None, typer.Option(help="Where fetched models are kept. Default: ~/.cache/taper.")
    ] = None,
    output: Annotated[Output, typer.Option(help="What to print.")] = Output.TABLE,
    top_k: Annotated[
        int, typer.Option(min=0, max=100, help="Ask for this many labels with probabilities.")
    ] = 0,
    battery: Annotated[
        float | None,
        typer.Option(help="Pretend that the battery holds this many percent (with auto)."),
    ] = None,
    lifetime: Annotated[
        str | None, typer.Option(help="Goal of auto: last this long, e.g. 7d, 36h.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Goal of auto: stay at least this accurate, e.g. 0.985.")
    ] = None,
    hardware: Annotated[
        str, typer.Option(help=f"Energy constants for auto: {', '.join(HARDWARE)}.")
    ] = PI_WIFI.name,
    capacity_wh: Annotated[
        float | None, typer.Option(min=1e-6, help="Energy of the full battery, for auto.")
    ] = None,
    explain: Annotated[bool, typer.Option(help="Say why auto works as it does.")] = False,
    exit_threshold: Annotated[
        float | None,
        typer.Option(help="Confidence from which a sample is answered on the device."),
    ] = None,
    use_exit: Annotated[
        bool, typer.Option("--exit/--no-exit", help="Answer confident samples on the device.")
    ] = True,
    in_flight: Annotated[
        int, typer.Option(min=1, max=1000, help="Samples on their way at the same time.")
    ] = 1,
    max_wait_ms: Annotated[
        float,
        typer.Option(help="How long a sample may wait for others to share a packet."),
    ] = 0.0,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for the server to come up.")
    ] = 10.0,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds to wait for one answer, retries included.")
    ] = 10.0,
    spool: Annotated[
        Path | None,
        typer.Option(help="Keep samples in this file until the cloud has answered them."),
    ] = None,
    spool_max: Annotated[
        int, typer.Option(help="Samples in the spool; when it is full, new ones are not kept.")
    ] = 10_000,
    start_offline: Annotated[
        bool, typer.Option(help="Start although no server can be reached; --spool implies it.")
    ] = False,
    tls: Annotated[bool, typer.Option(help="Connect with TLS.")] = False,
    ca: Annotated[Path | None, typer.Option(help="Certificates to trust (PEM).")] = None,
    cert: Annotated[Path | None, typer.Option(help="The device's certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="The key of --cert (PEM).")] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="TAPER_TOKEN", show_envvar=True, help="Token for the server."),
    ] = None,
) -> None:
    """Classify images with a network that is split between this device and a cloud server.

    The device computes the lower layers at a **fraction** of their channels and sends the
    resulting bits, a few dozen bytes; the server finishes. Confident samples, and all while the
    cloud is away, are answered on the device if the model has an exit head. Images of another size
    are scaled to the network's, and a note says so.

    Exit status: 0 every sample was answered; 1 the server refused a request; 2 a flag or an input
    is wrong; 3 the server could not be reached or went away.
    """
    folder = ModelSettings().folder if model_folder is None else model_folder
    settings = Settings(
        servers=tuple(server or ["localhost:50051"]),
        model=ModelSettings(model, model_from_server, folder),
        fraction=fraction,
        battery_percent=battery,
        lifetime_s=None if lifetime is None else parse_duration(lifetime),
        min_accuracy=min_accuracy,
        hardware=find_hardware(hardware).name,
        capacity_j=None if capacity_wh is None else capacity_wh * WATT_HOUR_J,
        exit_threshold=exit_threshold,
        use_exit=use_exit,
        top_k=top_k,
        wait_s=wait,
        timeout_s=timeout,
        max_wait_s=max_wait_ms / 1000,
        start_offline=start_offline,
        security=Security(tls, ca, cert, key, token),
        spool=None if spool is None else SpoolSettings(spool, spool_max),
    )
    if (lifetime or min_accuracy) and fraction != AUTO:
        raise UsageError("--lifetime and --min-accuracy: need --fraction auto")
    lines = output is Output.JSONL
    reasons: list[str] = []

    def on_decision(decision: Decision) -> None:
        reasons.append(decision.reason)
        if explain:
            say(decision.reason)

    run = Run(
        SplitClient(settings, on_late=print_late if lines else None, on_decision=on_decision),
        images,
        labels,
        in_flight,
        wait,
        print_line if lines else None,
        say,
    )
    asyncio.run(classify_all(run))
    finish(run, output, reasons)


def finish(run: Run, output: Output, reasons: Sequence[str]) -> None:
    """Print what was found, then raise the failure that ended the run, if there was one."""
    from device.report import print_table, summarise, to_json

    run.results.sort(key=lambda result: result.index)
    names = run.pictures.names
    summary = summarise(run.results, len(names), run.labels, run.spooled, run.late, reasons)
    if output is Output.TABLE:
        print_table(run.results, names, summary)
    elif output is Output.JSON:
        sys.stdout.write(to_json(run.results, names, summary) + "\n")
    if run.waiting:
        say(f"note: {run.waiting} samples wait in the spool")
    if run.failure is not None:
        answered = f"{len(run.results)} of {len(names)} samples answered"
        raise type(run.failure)(f"{run.failure}; {answered}")


def print_line(result: SampleResult, name: str) -> None:
    """One result as a line of JSON."""
    from device.report import sample_json

    sys.stdout.write(json.dumps(sample_json(result, name)) + "\n")


def print_late(answer: LateAnswer) -> None:
    """The cloud's answer to a sample of the spool, as a line of JSON."""
    from device.report import late_json

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
        app(arguments)
    except TaperError as error:
        say(f"error: {error}", "31")
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # Whoever read the results has gone; Python would complain once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
