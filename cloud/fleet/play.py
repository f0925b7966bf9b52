"""The command ``run``: play a scenario and store what the devices send."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import typer
import uvloop

from cloud.fleet.flags import (
    LOCAL,
    STORE,
    Authority,
    Fleet,
    Password,
    StoreUrl,
    Url,
    User,
    parse_fleet,
    parse_where,
)
from cloud.fleet.player import Player
from cloud.fleet.running import recording, say
from cloud.fleet.server_process import ServerProcess
from shared.command import needing_extra
from shared.errors import UsageError
from shared.fleet.scenario import read_scenario

DAY_S = 86_400.0


def run(
    scenario: Annotated[str, typer.Argument(help="A file, or the name of a shipped one.")],
    broker: Url = LOCAL,
    fleet: Fleet = "default",
    speed: Annotated[
        float, typer.Option(min=0.01, max=3600, help="As given to device.fleet.")
    ] = 60.0,
    devices: Annotated[int, typer.Option(min=1, help="Wait until so many are online.")] = 1,
    store: StoreUrl = STORE,
    keep: Annotated[float, typer.Option(min=0.01, help="Days after which it is dropped.")] = 30.0,
    serve: Annotated[
        str | None, typer.Option(help="Run the cloud server at HOST:PORT as a child.")
    ] = None,
    user: User = None,
    password: Password = None,
    ca: Authority = None,
) -> None:
    """Play a scenario: drive the devices, store what they send."""
    with needing_extra("fleet"):
        from cloud.telemetry.store import Store
    played = read_scenario(scenario)
    if played.needs_cloud and serve is None:
        raise UsageError(f"--serve: scenario {played.name} stops the cloud; give --serve HOST:PORT")
    name = parse_fleet(fleet)
    where = parse_where(broker, user, "controller", password, ca)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            server = None
            if serve is not None:
                server = await stack.enter_async_context(ServerProcess(serve))
            kept = await stack.enter_async_context(Store(store, keep * DAY_S))
            recorder = await stack.enter_async_context(recording(where, name, kept))
            player = Player(recorder.client, played, speed, server, say)
            while sum(one.online for one in recorder.state.devices.values()) < devices:  # noqa: ASYNC110 - births set no event
                await asyncio.sleep(0.1)
            say(f"{played.name}: {len(recorder.state.devices)} devices")
            await player.play()
            client = recorder.client.counts
            repeats = client.duplicates + recorder.counts.duplicates
            text = f"stored {recorder.counts.stored}, repeats {repeats}"
            say(f"{text}, refused {dict(client.refused) or 0}")

    uvloop.run(work())
