"""Run a fleet client while a block runs, for commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvloop
from rich.console import Console

from cloud.fleet.client import FleetClient
from cloud.fleet.flags import Site
from cloud.fleet.recorder import Recorder
from cloud.telemetry.records import TelemetryStore
from shared.fleet.broker import Broker

stderr = Console(stderr=True)
stdout = Console()


@asynccontextmanager
async def running(
    client: FleetClient, run: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[FleetClient]:
    """Run ``client`` while the block runs; the block starts when the fleet's state is complete.

    ``run`` is called in place of ``client.run``, e.g. a recorder's. An error that ends the client
    is raised in the block.
    """
    body = asyncio.current_task()

    def interrupt(ended: asyncio.Task[None]) -> None:
        # Without the client the block might wait for ever.
        if not ended.cancelled() and body is not None:
            body.cancel()

    async def follow() -> None:
        await (run or client.run)()

    task = asyncio.create_task(follow(), name="fleet client")
    complete = asyncio.create_task(client.complete.wait(), name="fleet state complete")
    try:
        await asyncio.wait((task, complete), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        task.add_done_callback(interrupt)
        yield client
    except asyncio.CancelledError:
        if body is not None and task.done() and not task.cancelled():
            body.uncancel()
            task.result()
        raise
    finally:
        task.remove_done_callback(interrupt)
        for one in (task, complete):
            one.cancel()
        await asyncio.gather(task, complete, return_exceptions=True)


@asynccontextmanager
async def recording(broker: Broker, fleet: str, store: TelemetryStore) -> AsyncIterator[Recorder]:
    """Run a recorder of ``fleet`` while the block runs."""
    recorder = Recorder(broker, fleet, store)
    async with running(recorder.client, recorder.run):
        yield recorder


def run_client(site: Site, work: Callable[[FleetClient], Awaitable[None]]) -> None:
    """Run ``work`` with a client that stores nothing."""

    async def connected() -> None:
        async with running(FleetClient(site.broker, site.fleet)) as client:
            await work(client)

    uvloop.run(connected())


def say(text: str) -> None:
    """Print a line on standard output, without wrapping or markup."""
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)


def print_error(text: str) -> None:
    """Print a line on standard error."""
    stderr.print(text, markup=False, highlight=False, soft_wrap=True)
