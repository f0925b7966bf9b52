"""The command line of ``python -m device.agent``: one real device of a fleet."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from device.agent.agent import Agent, AgentIdentity
from device.agent.classifier import DEFAULTS, Classifier, Pictures
from device.agent.ledger import Ledger
from device.agent.models import FleetModels
from device.agent.pace import Pace
from device.energy.power import MachinePower
from device.images.reading import read_images, read_labels, sample_images
from device.split.client import SplitClient
from device.split.settings import ClientSettings
from device.transport.channel import Security
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.energy.hardware import PI_WIFI, find_hardware
from shared.energy.model import EnergyModel
from shared.errors import UsageError
from shared.fleet.broker import parse_broker
from shared.fleet.messages import check_name
from shared.model.architecture import Shape
from shared.model.bundle import DEVICE_GROUPS, Bundle, read_bundle
from shared.typer_app import run_app

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
stderr = Console(stderr=True)


def read_pictures(source: str | None, labels: Path | None, shape: Shape) -> Pictures:
    """Return the images to classify; without ``source`` the shipped digits with their labels."""
    if source is None:
        sample = sample_images(shape)
        return Pictures(sample.images, sample.labels)
    images = read_images(source, shape)
    known = None if labels is None else read_labels(labels, len(images.names))
    return Pictures(images.images, known)


def checked(value: str, flag: str) -> str:
    """Return ``value`` if it is a name, else ``UsageError`` that names ``flag``."""
    try:
        return check_name(value, flag)
    except ValueError as error:
        raise UsageError(str(error)) from None


def until_signal(work: asyncio.Task[None]) -> None:
    """Cancel ``work`` on Ctrl-C or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)


@app.command()
def run(
    device: Annotated[str, typer.Option(help="Name of this device.")] = socket.gethostname(),
    fleet: Annotated[str, typer.Option(help="Fleet that it belongs to.")] = "default",
    broker: Annotated[str, typer.Option(help="**mqtt://HOST:PORT** or **mqtts://HOST:PORT**.")] = (
        "mqtt://localhost:1883"
    ),
    server: Annotated[str, typer.Option(help="The cloud, HOST:PORT.")] = "localhost:50051",
    group: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    model: Annotated[
        str, typer.Option(help="Shipped bundle or bundle file to start with.")
    ] = DEFAULT_MODEL,
    hardware: Annotated[str, typer.Option(help="Whose energy constants to use.")] = PI_WIFI.name,
    source: Annotated[
        str | None, typer.Option("--input", help="Images; default: the shipped digits.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Their labels, for the accuracy.")] = None,
    ledger: Annotated[
        Path, typer.Option(help="File of unconfirmed telemetry and sequence numbers.")
    ] = Path("taper-agent.sqlite"),
    model_folder: Annotated[Path, typer.Option(help="Where fetched models are kept.")] = Path(
        "taper-models"
    ),
    password: Annotated[
        str | None,
        typer.Option(envvar="TAPER_BROKER_PASSWORD", help="For the broker, or **@FILE**."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates to trust (PEM).")] = None,
    cert: Annotated[Path | None, typer.Option(help="The device's certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="The key of --cert (PEM).")] = None,
) -> None:
    """Run this machine as a device of a fleet, until Ctrl-C or SIGTERM."""
    identity = AgentIdentity(
        checked(fleet, "--fleet"),
        checked(device, "--device"),
        tuple(checked(one, "--group") for one in group or ()),
        find_hardware(hardware).name,
    )
    username = None if password is None else f"{fleet}/{device}"
    where = parse_broker(broker, username, password, ca, cert, key)
    bundle = read_bundle(bundle_path(model), DEVICE_GROUPS)
    pictures = read_pictures(source, labels, bundle.architecture.input_shape)
    settings = ClientSettings(servers=(server,), start_offline=True)

    def open_client(using: Bundle) -> SplitClient:
        return SplitClient(settings, bundle=using)

    async def work() -> None:
        pace = Pace()
        models = FleetModels(model_folder, (server,), Security())
        energy = EnergyModel(find_hardware(hardware))
        classifier = Classifier(
            bundle, open_client, models, energy, MachinePower(), pictures, pace, DEFAULTS
        )
        async with Ledger(ledger) as kept, classifier:
            agent = Agent(identity, where, classifier, kept, pace)
            task = asyncio.create_task(agent.run(), name="agent")
            until_signal(task)
            await asyncio.gather(task, return_exceptions=False)

    try:
        asyncio.run(work())
    except asyncio.CancelledError:
        stderr.print("stopped", highlight=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    run_app(app, arguments)
