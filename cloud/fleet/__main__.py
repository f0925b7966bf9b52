"""``python -m cloud.fleet``: drive a fleet of devices, watch it, set what it should do."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import typer
import uvloop
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cloud.fleet import archive
from cloud.fleet.controller import Controller, latest
from cloud.fleet.options import (
    LOCAL,
    STORE,
    Authority,
    Fleet,
    Password,
    StoreUrl,
    Url,
    User,
    named,
    where,
)
from cloud.fleet.player import Player, merged
from cloud.fleet.server_process import ServerProcess
from cloud.fleet.state import FleetState, accuracy
from shared.command import needing_extra
from shared.errors import UsageError
from shared.fleet.broker import Broker
from shared.fleet.messages import Settings
from shared.fleet.payloads import check_setting
from shared.fleet.scenario import read_scenario
from shared.typer_app import run_app

DAY_S = 86_400.0
LOOK_EVERY_S = 0.5
SETTLE_S = 0.5  # retained states come at once; when none has for so long, all are there
app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
stderr = Console(stderr=True)
stdout = Console()


@asynccontextmanager
async def controlling(controller: Controller) -> AsyncIterator[Controller]:
    """A controller that runs, with the devices that the broker knows of."""
    body = asyncio.current_task()

    def interrupt(ended: asyncio.Task[None]) -> None:
        # Without the controller nothing that the block waits for would come.
        if not ended.cancelled() and body is not None:
            body.cancel()

    task = asyncio.create_task(controller.run(), name="controller")
    connected = asyncio.create_task(controller.connected.wait())
    try:
        await asyncio.wait((task, connected), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        known = -1
        while known != len(controller.state.devices):
            known = len(controller.state.devices)
            await asyncio.sleep(SETTLE_S)
        task.add_done_callback(interrupt)
        yield controller
    except asyncio.CancelledError:
        if body is not None and task.done() and not task.cancelled():
            body.uncancel()
            task.result()
        raise
    finally:
        task.remove_done_callback(interrupt)
        for one in (task, connected):
            one.cancel()
        await asyncio.gather(task, connected, return_exceptions=True)


def parse_changes(changes: Sequence[str]) -> Settings:
    """Settings from ``key=value`` words; ``UsageError`` names the key and what is allowed."""
    given = {}
    for word in changes:
        key, sign, text = word.partition("=")
        if not sign:
            raise UsageError(f"KEY=VALUE: {word!r} is not allowed; give e.g. fraction=0.5")
        value: str | float = text
        if key not in ("fraction", "model"):
            try:
                value = float(text)
            except ValueError:
                raise UsageError(f"{key}: {text!r} is no number") from None
        try:
            given[key] = check_setting(key, value)
        except ValueError as error:
            raise UsageError(str(error)) from None
    return Settings(**given)


@app.command(name="set")
def set_(
    target: Annotated[str, typer.Argument(metavar="DEVICE|GROUP|all")],
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="**fraction**, **exit_threshold**, **rate_per_s**, **telemetry_s**, **model**.",
        ),
    ],
    broker: Url = LOCAL,
    fleet: Fleet = "default",
    wait: Annotated[float, typer.Option(min=0, help="Seconds for the devices to report.")] = 30.0,
    user: User = None,
    password: Password = None,
    ca: Authority = None,
) -> None:
    """Set something, and wait until every device has reported that it is so.

    Exit status 1 if a device refuses or is silent; it gets its desired state when it is back.
    """
    change = parse_changes(changes)

    async def work(controller: Controller) -> None:
        devices = controller.state.select(target)
        began_s = time.monotonic()
        futures = controller.desire(devices, lambda one: merged(one.desired.settings, change))
        await asyncio.wait(futures.values(), timeout=wait)
        silent = [name for name, future in futures.items() if not future.done()]
        refused = {
            name: report.refused[0]
            for name, future in futures.items()
            if future.done() and (report := future.result()).refused
        }
        good = len(devices) - len(silent) - len(refused)
        seconds = time.monotonic() - began_s
        stdout.print(f"{good} of {len(devices)} devices reported in {seconds:.2f} s")
        for name, refusal in list(refused.items())[:10]:
            stderr.print(f"{name}: {refusal.field}: {refusal.reason}", markup=False)
        if silent:
            stderr.print(f"silent: {', '.join(silent[:10])}{' ...' * (len(silent) > 10)}")
        if silent or refused:
            raise typer.Exit(1)

    _steer(where(broker, user, "operator", password, ca), named(fleet), work)


@app.command()
def watch(
    broker: Url = LOCAL,
    fleet: Fleet = "default",
    rows: Annotated[int, typer.Option(min=1, help="Devices to show.")] = 20,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this time.")] = None,
    user: User = None,
    password: Password = None,
    ca: Authority = None,
) -> None:
    """Show the fleet as it is, until Ctrl-C."""

    async def work(controller: Controller) -> None:
        end_s = float("inf") if seconds is None else time.monotonic() + seconds
        if not stdout.is_terminal:
            await _log_changes(controller.state, end_s)
            stdout.print(overview(controller.state, rows))
            return
        with Live(console=stdout, auto_refresh=False) as live:
            while True:
                live.update(overview(controller.state, rows), refresh=True)
                if time.monotonic() >= end_s:
                    return
                await asyncio.sleep(LOOK_EVERY_S)

    _steer(where(broker, user, "watcher", password, ca), named(fleet), work)


async def _log_changes(state: FleetState, end_s: float) -> None:
    """A line whenever the fleet's headline changes: for a file or a pipe."""
    shown = ""
    while time.monotonic() < end_s:
        if (line := headline(state)) != shown:
            say(line)
            shown = line
        await asyncio.sleep(LOOK_EVERY_S)


def headline(state: FleetState) -> str:
    """How many devices are online, and how often they are right."""
    devices = state.devices.values()
    here = sum(device.online for device in devices)
    right, labelled = accuracy(latest(devices))
    share = f", {right / labelled:.1%} right" if labelled else ""
    return f"fleet {state.fleet}: {here} of {len(devices)} online{share}"


def overview(state: FleetState, rows: int) -> Table:
    """The fleet as a table; the devices with the emptiest batteries first."""
    devices = list(state.devices.values())
    table = Table(title=headline(state), box=box.SIMPLE_HEAVY, title_justify="left")
    headings = ("device", "group", "online", "battery", "fraction", "model", "cloud", "own", "ms")
    for heading in (*headings, "error"):
        table.add_column(heading, no_wrap=True)
    devices.sort(key=lambda one: (one.telemetry.battery if one.telemetry else 2.0, one.name))
    for device in devices[:rows]:
        groups = ",".join(device.birth.groups) if device.birth else ""
        row = [device.name, groups, "yes" if device.online else "no"]
        one = device.telemetry
        if one is not None:
            row += [f"{one.battery:.0%}", f"{one.fraction:g}", one.model, str(one.answered_cloud)]
            row += [str(one.answered_device), f"{one.latency_ms:.1f}", one.error[:40]]
        table.add_row(*row)
    return table


@app.command()
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
    """Play a scenario: drive the devices, keep what they say."""
    with needing_extra("fleet"):
        from cloud.telemetry.store import Store
    played = read_scenario(scenario)
    if played.needs_cloud and serve is None:
        raise UsageError(f"--serve: scenario {played.name} stops the cloud; give --serve HOST:PORT")
    name = named(fleet)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            server = None
            if serve is not None:
                server = await stack.enter_async_context(ServerProcess(serve))
            kept = await stack.enter_async_context(Store(store, keep * DAY_S))
            controller = Controller(where(broker, user, "controller", password, ca), name, kept)
            player = Player(controller, played, speed, server, say)
            controller.on_message = player.see
            await stack.enter_async_context(controlling(controller))
            while sum(one.online for one in controller.state.devices.values()) < devices:  # noqa: ASYNC110 - births wake nobody
                await asyncio.sleep(0.1)
            say(f"{played.name}: {len(controller.state.devices)} devices")
            await player.play()
            counts = controller.counts
            refused = dict(counts.refused)
            text = f"stored {counts.stored}, repeats {counts.duplicates}, refused {refused or 0}"
            say(text)

    _run(work())


app.command()(archive.export)
app.command()(archive.report)


def say(text: str) -> None:
    """A line of what happens, also where nobody sees it before the end."""
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)


def _steer(broker: Broker, fleet: str, work: Callable[[Controller], Awaitable[None]]) -> None:
    """Do ``work`` with a controller that keeps nothing."""
    identifier = f"operator-{os.getpid()}"

    async def all_of_it() -> None:
        async with controlling(Controller(broker, fleet, None, identifier)) as controller:
            await work(controller)

    _run(all_of_it())


def _run(work: Awaitable[None]) -> None:
    async def awaited() -> None:
        await work

    uvloop.run(awaited())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    run_app(app, arguments)


if __name__ == "__main__":
    main()
