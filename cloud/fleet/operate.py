"""The commands for single devices and groups: ``set``, ``get`` and ``retire``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from cloud.fleet.changes import result_of, setting
from cloud.fleet.client import FleetClient
from cloud.fleet.flags import (
    Site,
    TrailStore,
    Who,
    of_a_fleet,
    parse_who,
)
from cloud.fleet.running import print_error, run_client, say
from cloud.fleet.trail import audited
from shared.errors import UsageError
from shared.fleet.messages import DeviceSettings, Reported
from shared.fleet.payloads import check_setting

MOST_LINES = 10  # devices that are listed by name
Target = Annotated[str, typer.Argument(metavar="DEVICE|GROUP|all")]


def parse_changes(words: Sequence[str]) -> dict[str, Any]:
    """Parse words such as ``fraction=0.5`` into settings; ``fraction=`` gives None, which unsets
    it.

    ``UsageError`` names the setting and the allowed values.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign:
            raise UsageError(f"KEY=VALUE: {word!r} is not allowed; give e.g. fraction=0.5")
        value: str | float | None = text or None
        if text and key not in ("fraction", "model"):
            try:
                value = float(text)
            except ValueError:
                raise UsageError(f"{key}: {text!r} is no number") from None
        if key in values:
            raise UsageError(f"{key}: is given twice")
        try:
            values[key] = check_setting(key, value)
        except ValueError as error:
            raise UsageError(str(error)) from None
    return values


@of_a_fleet("operator")
def set_(
    target: Target,
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="**fraction**, **exit_threshold**, **rate_per_s**, **telemetry_s**, **model**; "
            "**KEY=** leaves the choice to the device again.",
        ),
    ],
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds in which the devices must report.")
    ] = 30.0,
    store: TrailStore = None,
    who: Who = None,
    *,
    site: Site,
) -> None:
    """Change settings, and wait until every connected device has reported them.

    Exit status 1 if a device refuses or has not reported; one that is away gets its desired state
    when it is back.
    """
    values = parse_changes(changes)

    async def work(client: FleetClient) -> None:
        devices = client.state.select(target)
        async with audited(store, site, parse_who(who), target, " ".join(changes)) as done:
            began_s = time.monotonic()
            futures = client.desire(devices, setting(values))
            # Wait only for connected devices; if none is connected, wait for all.
            here = [futures[device.name] for device in devices if device.online]
            await asyncio.wait(here or futures.values(), timeout=wait)
            seconds = time.monotonic() - began_s
            done(result_of(futures))
        away = [d.name for d in devices if not d.online and not futures[d.name].done()]
        if not summarize(futures, away, seconds):
            raise typer.Exit(1)

    run_client(site, work)


def summarize(
    futures: dict[str, asyncio.Future[Reported]], away: Sequence[str], seconds: float
) -> bool:
    """Print what the devices reported; return whether all applied the change."""
    silent, lines, good = [], [], 0
    for name, future in futures.items():
        if not future.done():
            silent.append(name)
        elif error := future.exception():
            lines.append(f"{name}: {error}")
        elif refused := future.result().refused:
            lines.append(f"{name}: {refused[0].field}: {refused[0].reason}")
        else:
            good += 1
    say(f"{good} of {len(futures)} devices reported in {seconds:.2f} s")
    for line in lines[:MOST_LINES]:
        print_error(line)
    if len(lines) > MOST_LINES:
        print_error(f"... and {len(lines) - MOST_LINES} more")
    silent = [name for name in silent if name not in set(away)]
    for text, names in (("silent", silent), ("away, set when they are back", away)):
        if names:
            print_error(
                f"{text}: {', '.join(names[:MOST_LINES])}{' ...' * (len(names) > MOST_LINES)}"
            )
    return good == len(futures)


@of_a_fleet("watcher")
def get(
    target: Target,
    *,
    site: Site,
) -> None:
    """Print what is desired of devices and what they report."""

    async def work(client: FleetClient) -> None:
        for device in client.state.select(target):
            state = "online" if device.online else "away"
            desired = written(device.desired.settings)
            say(f"{device.name} ({state}): desired version {device.desired.version}: {desired}")
            reported = device.reported
            if reported is None:
                say("  nothing reported")
                continue
            version = reported.model_version[:16]
            say(f"  reported version {reported.version}: {written(reported.settings)} ({version})")
            for refused in reported.refused:
                say(f"  refused {refused.field}: {refused.reason}")

    run_client(site, work)


def written(settings: DeviceSettings) -> str:
    """Format settings as words that ``set`` accepts."""
    given = msgspec.structs.asdict(settings).items()
    return " ".join(f"{name}={value}" for name, value in given if value is not None) or "nothing"


@of_a_fleet("operator")
def retire(
    device: Annotated[str, typer.Argument(metavar="DEVICE")],
    store: TrailStore = None,
    who: Who = None,
    *,
    site: Site,
) -> None:
    """Remove a device that will not come back; its stored telemetry stays."""

    async def work(client: FleetClient) -> None:
        if device not in client.state.devices:
            raise UsageError(f"DEVICE: {device!r} is no device of fleet {client.state.fleet}")
        if client.state.devices[device].online:
            raise UsageError(f"DEVICE: {device!r} is connected; stop it first")
        async with audited(store, site, parse_who(who), device, "retire") as done:
            await client.retire(device)
            done("retired")
        say(f"{device}: retired")

    run_client(site, work)
