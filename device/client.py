"""``python -m device.client``: classify images, lower layers here, upper layers in the cloud."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from device.battery import Battery, FixedBattery, SystemBattery
from device.images import ImageSet, read_images, read_labels, sample_images
from device.link import Link, check_address
from device.policy import FixedPolicy, LinearPolicy, Policy
from device.report import print_table, sample_json, summarise, to_json
from device.split import SampleResult, SplitClient
from shared.bundle import DEVICE_GROUPS, Bundle, read_bundle
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.errors import TaperError
from shared.fractions import parse_fraction

AUTO = "auto"
app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
stderr = Console(stderr=True)


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
            "up to 1, or **auto** to follow the battery."
        ),
    ] = AUTO,
    server: Annotated[str, typer.Option(help="Cloud server, HOST:PORT.")] = "localhost:50051",
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
    output: Annotated[Output, typer.Option(help="What to print.")] = Output.TABLE,
    top_k: Annotated[
        int, typer.Option(min=0, max=100, help="Ask for this many labels with probabilities.")
    ] = 0,
    battery: Annotated[
        float | None,
        typer.Option(help="Pretend that the battery holds this many percent (with auto)."),
    ] = None,
    in_flight: Annotated[
        int, typer.Option(min=1, max=1000, help="Samples on their way at the same time.")
    ] = 1,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for the server to come up.")
    ] = 10.0,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds to wait for one answer.")
    ] = 10.0,
) -> None:
    """Classify images with a network that is split between this device and a cloud server.

    The device computes the lower layers at a **fraction** of their channels and sends the
    resulting bits, a few dozen bytes; the server finishes. Images of another size are scaled to the
    network's, and a note says so.

    Exit status: 0 every sample was answered; 1 the server refused a request; 2 a flag or an input
    is wrong; 3 the server could not be reached or went away.
    """
    check_address(server)
    if fraction != AUTO:
        parse_fraction(fraction, "--fraction")
    bundle = read_bundle(bundle_path(model), DEVICE_GROUPS)
    shape = bundle.architecture.input_shape
    pictures = sample_images(shape) if images is None else read_images(images, shape)
    if pictures.resized:
        stderr.print(
            f"note: {pictures.resized} of {len(pictures.names)} images scaled to "
            f"{shape.width}x{shape.height}",
            highlight=False,
        )
    known = pictures.labels if labels is None else read_labels(labels, len(pictures.names))
    source: Battery = SystemBattery() if battery is None else FixedBattery(battery)
    link = Link(server, bundle.metadata.name, bundle.metadata.version, wait, timeout)
    client = SplitClient(bundle, link, make_policy(fraction, bundle), source, top_k)
    results: list[SampleResult] = []

    def on_result(result: SampleResult) -> None:
        results.append(result)
        if output is Output.JSONL:
            sys.stdout.write(json.dumps(sample_json(result, pictures.names)) + "\n")

    failure: TaperError | None = None
    try:
        asyncio.run(classify_all(client, link, pictures, in_flight, on_result))
    except* TaperError as group:
        failure = first_error(group)
    results.sort(key=lambda result: result.index)
    summary = summarise(results, len(pictures.names), known)
    if output is Output.TABLE:
        print_table(results, pictures.names, summary, Console())
    elif output is Output.JSON:
        sys.stdout.write(to_json(results, pictures.names, summary) + "\n")
    if failure is not None:
        answered = f"{len(results)} of {len(pictures.names)} samples answered"
        raise type(failure)(f"{failure}; {answered}")


def make_policy(fraction: str, bundle: Bundle) -> Policy:
    """The policy that ``--fraction`` names."""
    levels = bundle.architecture.device_levels
    if fraction == AUTO:
        return LinearPolicy(levels)
    return FixedPolicy(parse_fraction(fraction, "--fraction"), levels)


async def classify_all(
    client: SplitClient, link: Link, pictures: ImageSet, in_flight: int, on_result: Any
) -> None:
    """Classify every picture with at most ``in_flight`` on their way, calling ``on_result``."""
    todo = iter(range(len(pictures.names)))

    async def work() -> None:
        for index in todo:
            on_result(await client.classify(pictures.images[index], index))

    async with link, asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, len(pictures.names))):
            group.create_task(work())


def first_error(group: BaseExceptionGroup[TaperError]) -> TaperError:
    """The first error of a group of the tree's errors."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TaperError):
        return error
    raise error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    try:
        app(arguments)
    except TaperError as error:
        stderr.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
