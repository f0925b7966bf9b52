"""The commands ``play`` and ``run``: play a scenario; ``run`` also stores the telemetry."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated

import typer
import uvloop

from cloud.fleet.client import FleetClient
from cloud.fleet.flags import STORE, Keep, Site, StoreUrl, of_a_fleet
from cloud.fleet.player import Player
from cloud.fleet.running import recording, running, say
from cloud.fleet.server_process import ServerProcess
from shared.command import needing_extra
from shared.errors import UsageError
from shared.fleet.scenario import FleetScenario, read_scenario

DAY_S = 86_400.0
WAITING_S = 5.0


Source = Annotated[str, typer.Argument(help="A scenario file, or the name of a shipped one.")]
Speed = Annotated[
    float,
    typer.Option(
        "--speed",
        min=0.01,
        max=3600,
        help="Speed of the scenario's clock, as that of device.fleet.",
    ),
]
Devices = Annotated[
    int, typer.Option("--devices", min=1, help="Wait until so many devices are online.")
]
Serve = Annotated[
    str | None, typer.Option("--serve", help="Run the cloud server at HOST:PORT as a child.")
]


@of_a_fleet("operator")
def play(
    scenario: Source,
    speed: Speed = 60.0,
    devices: Devices = 1,
    serve: Serve = None,
    store: Annotated[
        str | None, typer.Option("--store", help="The recorder's store, which roll-outs need.")
    ] = None,
    *,
    site: Site,
) -> None:
    """Play a scenario without storing anything; a recorder stores (cloud.fleet record)."""
    played = _read(scenario, serve)
    if store is None and any(event.rollout for event in played.events):
        raise UsageError(f"--store: scenario {played.name} rolls out a model; name the store")

    async def work() -> None:
        async with (
            _serving(serve) as server,
            running(FleetClient(site.broker, site.fleet)) as one,
        ):
            await _play(Player(one, played, speed, server, say, store), one, devices)

    uvloop.run(_until_asked_to_end(work()))


@of_a_fleet("controller")
def run(
    scenario: Source,
    speed: Speed = 60.0,
    devices: Devices = 1,
    store: StoreUrl = STORE,
    keep: Keep = 30.0,
    serve: Serve = None,
    *,
    site: Site,
) -> None:
    """Play a scenario and store what the devices send: play and record in one."""
    with needing_extra("fleet"):
        from cloud.telemetry.store import Store
    played = _read(scenario, serve)

    async def work() -> None:
        async with (
            _serving(serve) as server,
            Store(store, keep * DAY_S) as kept,
            recording(site.broker, site.fleet, kept) as recorder,
        ):
            player = Player(recorder.client, played, speed, server, say, store)
            await _play(player, recorder.client, devices)
            client = recorder.client.counts
            repeats = client.duplicates + recorder.counts.duplicates
            text = f"stored {recorder.counts.stored}, repeats {repeats}"
            say(f"{text}, refused {dict(client.refused) or 0}")

    uvloop.run(_until_asked_to_end(work()))


async def _until_asked_to_end(work: Coroutine[None, None, None]) -> None:
    """Run ``work`` to its end or until SIGTERM.

    The handler is needed in containers, whose first process ignores SIGTERM by default.
    """
    task, asked = asyncio.create_task(work, name="scenario"), asyncio.Event()

    def end() -> None:
        asked.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    try:
        await task
    except asyncio.CancelledError:
        if not asked.is_set():
            raise


def _read(scenario: str, serve: str | None) -> FleetScenario:
    played = read_scenario(scenario)
    if played.needs_cloud and serve is None:
        raise UsageError(f"--serve: scenario {played.name} stops the cloud; give --serve HOST:PORT")
    return played


@asynccontextmanager
async def _serving(address: str | None) -> AsyncIterator[ServerProcess | None]:
    """Run a cloud server at ``address`` while the block runs; yields None without an address."""
    if address is None:
        yield None
        return
    async with ServerProcess(address) as server:
        yield server


async def _play(player: Player, client: FleetClient, devices: int) -> None:
    """Wait until ``devices`` devices are online, then play."""
    state = client.state
    shown_s = time.monotonic()
    while (here := sum(one.online for one in state.devices.values())) < devices:
        if time.monotonic() - shown_s > WAITING_S:
            shown_s = time.monotonic()
            say(f"waiting for {devices} devices; {here} of {len(state.devices)} are online")
        await asyncio.sleep(0.1)
    say(f"{player.name}: {len(state.devices)} devices")
    await player.play()
