"""The command ``record``: a service that stores the messages of a fleet's devices."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import Annotated

import typer
import uvloop

from cloud.fleet.flags import STORE, Keep, Site, StoreUrl, of_a_fleet
from cloud.fleet.metrics import serving
from cloud.fleet.recorder import Recorder
from cloud.fleet.running import say
from shared.command import needing_extra
from shared.errors import BrokerError, TakenOverError
from shared.fleet.broker import Broker

DAY_S = 86_400.0
AGAIN_S = 5.0


@of_a_fleet("controller")
def record(
    store: StoreUrl = STORE,
    keep: Keep = 30.0,
    metrics_host: Annotated[
        str, typer.Option(help="Address on which metrics are served.")
    ] = "127.0.0.1",
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port on which Prometheus metrics are served."),
    ] = None,
    *,
    site: Site,
) -> None:
    """Store what devices send, and request what is missing, until Ctrl-C or SIGTERM.

    A broker that cannot be reached, at the start or later, is tried again.
    """
    with needing_extra("fleet"):
        from cloud.telemetry.store import Store

    async def work() -> None:
        async with AsyncExitStack() as stack:
            kept = await stack.enter_async_context(Store(store, keep * DAY_S))
            recorder = Recorder(site.broker, site.fleet, kept)
            if metrics_port is not None:
                port = stack.enter_context(serving(recorder, metrics_host, metrics_port))
                say(f"metrics on {metrics_host}:{port}")
            task = asyncio.create_task(follow(recorder, site.broker), name="recorder")
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
            await asyncio.wait((task,))
            if not task.cancelled():
                task.result()
            say(f"stored {recorder.counts.stored}")

    uvloop.run(work())


async def follow(recorder: Recorder, where: Broker) -> None:
    """Run ``recorder``; print when it connects, or why its first connection fails."""
    announcing = asyncio.create_task(_announce(recorder, where), name="recorder announcement")
    shown = ""
    try:
        while True:
            try:
                await recorder.run()
            except TakenOverError:
                raise
            except BrokerError as error:  # of the first connection; run() repeats later ones
                if str(error) != shown:
                    say(f"{error}; trying again")
                    shown = str(error)
            await asyncio.sleep(AGAIN_S)
    finally:
        announcing.cancel()


async def _announce(recorder: Recorder, where: Broker) -> None:
    await recorder.client.complete.wait()
    say(f"recording fleet {recorder.state.fleet} at {where}: {len(recorder.state.devices)} devices")
