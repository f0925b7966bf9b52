"""A running deployment of the last release becomes one of this checkout, service by service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from tests.containers.engine import Engine
from tests.containers.images import TAG, rename
from tests.containers.release import RELEASED, released
from tests.containers.stack import PROXY, Stack, stack
from tests.containers.trial import AnyWidth, settled
from tests.support.devices import load, progress
from tests.support.fleets import Audit
from tests.support.processes import ROOT

CURRENT = "current"
BETWEEN = 100
# What devices talk to first, and devices last: for a while they are of the release before.
ORDER = (
    *("broker", "cloud-1", "cloud-2", "proxy", "recorder", "dashboard", "player"),
    *("prometheus", "grafana", "fleet"),
)


@dataclass(frozen=True)
class Upgraded:
    """What the upgrade came to. ``old``: services that still run an image of the last release."""

    samples: int
    failed: int
    failures: tuple[str, ...]
    old: tuple[str, ...]
    telemetry: Audit


async def upgrade(engine: Engine, folder: Path) -> Upgraded:
    """Bring up the last release, and change its services to this checkout under load."""
    rename(engine, TAG, CURRENT)
    rename(engine, RELEASED, TAG)
    try:
        with released() as root, stack(engine, folder, root) as running:
            rename(engine, CURRENT, TAG)
            words = [
                word.replace(str(root), str(ROOT)) for word in running.words
            ]  # the same project, of the files of this checkout
            return await _changed(replace(running, words=tuple(words)))
    finally:
        rename(engine, CURRENT, TAG)


async def _changed(running: Stack) -> Upgraded:
    async with load(PROXY, devices=4, tally=AnyWidth()) as tally:
        await progress(tally, BETWEEN)
        for service in (name for name in ORDER if name in running.services):
            words = ["up", "--detach", "--no-build", "--no-deps", service]
            await asyncio.to_thread(running.compose, *words)
            await asyncio.to_thread(running.wait)
            await progress(tally, BETWEEN)
    failed = sum(count != 1 for count in tally.answers) + tally.wrong
    telemetry = await asyncio.to_thread(settled, running)
    old = tuple(name for name in running.services if not current(running, name))
    return Upgraded(tally.asked, failed, tuple(tally.failures[:5]), old, telemetry)


def current(running: Stack, service: str) -> bool:
    """Whether a service's container has the image that now has the name of its image."""
    told = running.inspect(service)
    words = ["image", "inspect", "--format", "{{.Id}}", told["Config"]["Image"]]
    return bool(running.engine.docker(*words) == told["Image"])
