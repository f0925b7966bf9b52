"""``python -m device.fleet``: many simulated devices in one process.

Each runs the agent of ``device.agent`` with its own MQTT connection and last will, battery,
hardware, policy and images, and its own stream to the cloud; streams share HTTP/2 connections.
"""

from __future__ import annotations

import asyncio
import csv
import gc
import logging
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from msgspec import structs
from rich.console import Console

from device.agent.agent import Agent
from device.agent.classifier import DEFAULTS, Classifier
from device.agent.command import until_signal
from device.agent.flags import checked
from device.agent.identity import AgentIdentity
from device.agent.ledger import Ledger
from device.agent.models import FleetModels
from device.agent.pace import Pace
from device.agent.supply import ArraySupply, read_arrays
from device.energy.power import SimulatedPower
from device.energy.recharge import parse_recharge
from device.energy.simulated_battery import Cell, SimulatedBattery
from device.fleet.sharing import Channels, Pipelines
from device.split.client import Factories, SplitClient
from device.split.settings import ClientSettings
from device.transport.channel import Security
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.energy.hardware import WATT_HOUR_J, find_hardware
from shared.energy.model import EnergyModel
from shared.errors import UsageError
from shared.fleet.broker import Broker, parse_broker
from shared.fleet.messages import DeviceSettings
from shared.fleet.scenario import FleetScenario, Group, read_scenario
from shared.model.bundle import DEVICE_GROUPS, Bundle, read_bundle
from shared.typer_app import run_app

CONNECTING_AT_ONCE = 100
PLAIN = FleetScenario.model_validate({"name": "plain", "duration": "1d"})
app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
stderr = Console(stderr=True)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FleetPlan:
    """A fleet to simulate. ``passwords`` are by FLEET/DEVICE, None for a broker without them."""

    fleet: str
    devices: int
    broker: Broker
    server: str
    seed: int
    speed: float
    groups: tuple[Group, ...]
    settings: DeviceSettings
    start_hour: float
    ledger: Path
    models: Path
    bundle: Bundle
    pictures: ArraySupply
    passwords: dict[str, str] | None = None


class SimulatedFleet:
    """The devices of ``plan``. Use as ``async with``; ``run`` never returns."""

    def __init__(self, plan: FleetPlan) -> None:
        self._plan = plan
        self._channels = Channels()
        self._pipelines = Pipelines()
        self._gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self._models = FleetModels(plan.models, (plan.server,), Security())
        self.agents: list[Agent] = []

    async def __aenter__(self) -> SimulatedFleet:
        self._stack = AsyncExitStack()
        self._ledger = await self._stack.enter_async_context(Ledger(self._plan.ledger))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Run all devices; if one fails this is logged and the others continue."""
        plan = self._plan
        midnight_s = time.time() // 86_400 * 86_400
        start_s = midnight_s + plan.start_hour * 3600 if plan.speed != 1 else time.time()
        pace = Pace(plan.speed, start_s)
        async with asyncio.TaskGroup() as group:
            for number in range(1, plan.devices + 1):
                group.create_task(self._live(number, pace), name=f"device {number}")

    @property
    def connected(self) -> int:
        """Number of devices that are connected to the broker."""
        return sum(agent.connected.is_set() for agent in self.agents)

    async def _live(self, number: int, pace: Pace) -> None:
        name = f"device-{number:05d}"
        chance = random.Random(f"{self._plan.seed} {number}")  # noqa: S311 - a simulation
        group = self._group(number)
        classifier = self._classifier(group, chance, pace)
        try:
            async with self._gate:
                await classifier.__aenter__()
            try:
                identity = AgentIdentity(
                    self._plan.fleet, name, (group.name,), group.hardware, True
                )
                agent = Agent(identity, self._broker(name), classifier, self._ledger, pace)
                self.agents.append(agent)
                await agent.run()
            finally:
                await classifier.__aexit__(None, None, None)
        except Exception:  # noqa: BLE001 - the other devices continue
            _log.exception("%s: failed and is gone", name)

    def _classifier(self, group: Group, chance: random.Random, pace: Pace) -> Classifier:
        plan = self._plan
        hardware = find_hardware(group.hardware)
        capacity_j = hardware.battery_j
        if group.capacity_wh is not None:
            capacity_j = group.capacity_wh * WATT_HOUR_J
        battery = SimulatedBattery(
            Cell(capacity_j), parse_recharge(group.recharge), chance.uniform(*group.battery)
        )
        battery.now_s = plan.start_hour * 3600
        power = SimulatedPower(battery)
        client = ClientSettings(servers=(plan.server,), start_offline=True)

        def open_client(bundle: Bundle) -> SplitClient:
            return SplitClient(
                client,
                bundle=bundle,
                battery=power,
                factories=Factories(self._pipelines, self._channels),
            )

        first = chance.randrange(len(plan.pictures.images))
        pictures = replace(plan.pictures, first=first)
        energy = EnergyModel(hardware)
        return Classifier(
            plan.bundle, open_client, self._models, energy, power, pictures, pace,
            plan.settings,
        )  # fmt: skip

    def _group(self, number: int) -> Group:
        """Return the group of a device; any range of numbers has the groups in their shares."""
        place = (number * 0.6180339887) % 1.0
        for group in self._plan.groups:
            if place < group.share:
                return group
            place -= group.share
        return self._plan.groups[-1]

    def _broker(self, name: str) -> Broker:
        plan = self._plan
        if plan.passwords is None:
            return plan.broker
        user = f"{plan.fleet}/{name}"
        if user not in plan.passwords:
            raise UsageError(f"--credentials: has no password for {user}")
        return replace(plan.broker, username=user, password=plan.passwords[user])


def allow_connections(devices: int) -> None:
    """Raise the limit of open files for ``devices``; ``UsageError`` if the system refuses."""
    wanted = devices + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    if hard < wanted and hard != resource.RLIM_INFINITY:
        raise UsageError(f"--devices: {devices} need {wanted} open files; ulimit -Hn is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def simulate(plan: FleetPlan) -> None:
    """Run ``plan`` until Ctrl-C or SIGTERM; print the number of connected devices."""
    async with SimulatedFleet(plan) as fleet:
        task = asyncio.create_task(fleet.run(), name="fleet")
        until_signal(task)
        began_s, shown = time.monotonic(), -1
        while not task.done():
            await asyncio.wait((task,), timeout=1.0)
            if fleet.connected != shown:
                shown = fleet.connected
                seconds = time.monotonic() - began_s
                text = f"{shown} of {plan.devices} devices connected after {seconds:.1f} s\n"
                sys.stdout.write(text)
                sys.stdout.flush()
        if not task.cancelled():
            task.result()


@app.command()
def run(
    devices: Annotated[int, typer.Option(min=1, max=100_000, help="Number of devices.")] = 200,
    broker: Annotated[str, typer.Option(help="**mqtt://HOST:PORT** or **mqtts://HOST:PORT**.")] = (
        "mqtt://localhost:1883"
    ),
    server: Annotated[
        str, typer.Option(help="Address of the cloud server, HOST:PORT.")
    ] = "localhost:50051",
    fleet: Annotated[str, typer.Option(help="Name of the fleet.")] = "default",
    seed: Annotated[int, typer.Option(help="Seed of batteries and images.")] = 1,
    scenario: Annotated[
        str | None,
        typer.Option(help="Scenario of groups and first settings: a file or a shipped name."),
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Speed of the devices' clocks.")
    ] = 1.0,
    model: Annotated[str, typer.Option(help="Model to start with.")] = DEFAULT_MODEL,
    source: Annotated[
        str | None, typer.Option("--input", help="Images; default: the shipped digits.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels of the images.")] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="File that keeps sequence numbers and telemetry over restarts."),
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="The credentials.csv of provision.py.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates to trust (PEM).")] = None,
) -> None:
    """Simulate a fleet of devices against a real broker and a real cloud, until Ctrl-C."""
    played = PLAIN if scenario is None else read_scenario(scenario)
    for group in played.groups:
        find_hardware(group.hardware, "--scenario: groups.hardware")
        parse_recharge(group.recharge, "--scenario: groups.recharge")
    allow_connections(devices)
    # Garbage collections visit the objects of all devices, so they must be rare.
    gc.set_threshold(50_000, 20, 100)
    bundle = read_bundle(bundle_path(model), DEVICE_GROUPS)
    with tempfile.TemporaryDirectory(prefix="taper-fleet-") as folder:
        plan = FleetPlan(
            fleet=checked(fleet, "--fleet"),
            devices=devices,
            broker=parse_broker(broker, ca=ca),
            server=server,
            seed=seed,
            speed=speed,
            groups=played.groups,
            settings=structs.replace(DEFAULTS, **played.settings.given()),
            start_hour=played.start,
            ledger=Path(folder) / "ledger.sqlite" if ledger is None else ledger,
            models=Path(folder) / "models",
            bundle=bundle,
            pictures=read_arrays(source, labels, bundle.architecture.input_shape),
            passwords=None if credentials is None else read_credentials(credentials),
        )
        try:
            uvloop.run(simulate(plan))
        except asyncio.CancelledError:
            stderr.print("stopped", highlight=False)


def read_credentials(path: Path) -> dict[str, str]:
    """Return passwords by user name."""
    try:
        with path.open(newline="") as file:
            return {row[0]: row[1] for row in csv.reader(file) if row}
    except (OSError, IndexError) as error:
        raise UsageError(f"--credentials: {path} cannot be read ({error})") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    run_app(app, arguments)
