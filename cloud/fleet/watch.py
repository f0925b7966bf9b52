"""The command ``watch``: show the fleet as a live table."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer
from rich import box
from rich.live import Live
from rich.table import Table

from cloud.fleet.client import FleetClient
from cloud.fleet.flags import Site, of_a_fleet
from cloud.fleet.running import run_client, say, stdout
from cloud.fleet.state import DeviceState, FleetState
from cloud.telemetry.sums import add_up

LOOK_EVERY_S = 0.5
NARROW = 100  # on terminals with fewer columns the table is abridged
# Heading, and whether the column is shown on narrow terminals.
COLUMNS = (
    ("device", True),
    ("group", False),
    ("online", True),
    ("battery", True),
    ("fraction", True),
    ("model", False),
    ("cloud", True),
    ("own", True),
    ("ms", True),
    ("error", True),
)


@of_a_fleet("watcher")
def watch(
    rows: Annotated[int, typer.Option(min=1, help="Number of devices to show.")] = 20,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this time.")] = None,
    *,
    site: Site,
) -> None:
    """Show the fleet until Ctrl-C; to a pipe or file, print a line whenever its summary changes."""

    async def work(client: FleetClient) -> None:
        end_s = float("inf") if seconds is None else time.monotonic() + seconds
        if not stdout.is_terminal:
            await _log_changes(client.state, end_s)
            stdout.print(overview(client.state, rows, stdout.width))
            return
        with Live(console=stdout, auto_refresh=False) as live:
            while True:
                live.update(overview(client.state, rows, stdout.width), refresh=True)
                if time.monotonic() >= end_s:
                    return
                await asyncio.sleep(LOOK_EVERY_S)

    run_client(site, work)


async def _log_changes(state: FleetState, end_s: float) -> None:
    shown = ""
    while time.monotonic() < end_s:
        if (line := headline(state)) != shown:
            say(line)
            shown = line
        await asyncio.sleep(LOOK_EVERY_S)


def headline(state: FleetState) -> str:
    """Summarise the fleet in a line: devices online and their accuracy."""
    devices = state.devices.values()
    here = sum(device.online for device in devices)
    accuracy = add_up(one.telemetry for one in devices if one.telemetry is not None).accuracy
    share = "" if accuracy is None else f", {accuracy:.1%} right"
    return f"fleet {state.fleet}: {here} of {len(devices)} online{share}"


def overview(state: FleetState, rows: int, width: int) -> Table:
    """Return a table of at most ``rows`` devices, the emptiest batteries first."""
    devices = list(state.devices.values())
    table = Table(title=headline(state), box=box.SIMPLE_HEAVY, title_justify="left")
    narrow = width < NARROW
    shown = [place for place, (_, always) in enumerate(COLUMNS) if always or not narrow]
    for place in shown:
        table.add_column(COLUMNS[place][0], no_wrap=True, overflow="ellipsis")
    devices.sort(key=lambda one: (one.telemetry.battery if one.telemetry else 2.0, one.name))
    for device in devices[:rows]:
        cells = _cells(device)
        table.add_row(*(cells[place] for place in shown))
    return table


def _cells(device: DeviceState) -> tuple[str, ...]:
    groups = ",".join(device.birth.groups) if device.birth else ""
    name = (device.name, groups, "yes" if device.online else "no")
    one = device.telemetry
    if one is None:
        return *name, *[""] * 7
    own = (str(one.answered_cloud), str(one.answered_device), f"{one.latency_ms:.1f}")
    return *name, f"{one.battery:.0%}", f"{one.fraction:g}", one.model, *own, one.error[:40]
