"""A running deployment of the last release becomes one of this checkout, by ``deploy/upgrade``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tests.containers.engine import Engine
from tests.containers.images import TAG, rename
from tests.containers.progress import say
from tests.containers.release import RELEASED, released
from tests.containers.stack import PROXY, Stack, provision, stack
from tests.containers.trial import PAUSE_S, AnyWidth, settled
from tests.support.devices import load, progress
from tests.support.fleets import Audit
from tests.support.processes import ROOT

CURRENT = "current"
BETWEEN = 300
SCRIPT = ROOT / "deploy/upgrade"
UPGRADE_S = 900.0


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
            return await _changed(running.of(ROOT))
    finally:
        rename(engine, CURRENT, TAG)


async def _changed(running: Stack) -> Upgraded:
    async with load(PROXY, devices=4, pause_s=PAUSE_S, tally=AnyWidth()) as tally:
        await progress(tally, BETWEEN)
        provision(running.folder / "broker", ROOT)
        compose = " ".join(running.compose_words)
        words = ["env", f"COMPOSE={compose}", str(SCRIPT)]
        said = await asyncio.to_thread(running.engine.run, *words, seconds=UPGRADE_S)
        say(f"changed: {', '.join(said.splitlines())}")
        await asyncio.to_thread(running.wait)
        await progress(tally, BETWEEN)
    failed = sum(count != 1 for count in tally.answers) + tally.wrong
    old = tuple(name for name in running.services if not current(running, name))
    telemetry = await asyncio.to_thread(settled, running)
    outcome = Upgraded(tally.asked, failed, tuple(tally.failures[:5]), old, telemetry)
    say(str(outcome))
    return outcome


def current(running: Stack, service: str) -> bool:
    """Whether a service's container has the image that now has the name of its image."""
    told = running.inspect(service)
    words = ["image", "inspect", "--format", "{{.Id}}", told["Config"]["Image"]]
    return bool(running.engine.docker(*words) == told["Image"])
