"""One run of chaos: events by the seed's plan under load, then peace, then the audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.deployment import DEVICES, FLEET, NETWORKS, PROGRAMS, Deployment, deployment
from tests.chaos.plan import Event, make_plan
from tests.chaos.programs import module
from tests.chaos.samples import Count, clients
from tests.support.fleets import Audit, audit
from tests.support.processes import ROOT, environment

CLIENTS = 4
QUIET = ("rate_per_s=0", "telemetry_s=86400")
TRIES = 12
SETTLE_S = 3.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    seed: int
    seconds: float
    events: int
    starts: int
    samples: Count
    telemetry: Audit

    @property
    def green(self) -> bool:
        """Every sample has exactly one answer, and every message of telemetry is stored once."""
        kept = self.telemetry.stored > 0 and not (self.telemetry.lost or self.telemetry.duplicate)
        return self.samples.right and kept

    def to_json(self) -> dict[str, Any]:
        """All numbers, and ``green``."""
        return {**asdict(self), "green": self.green}


async def run(seed: int, seconds: float, folder: Path, say: Say) -> Outcome:
    """Let the plan of ``seed`` happen for ``seconds``, and audit."""
    began_s = time.monotonic()
    plan = make_plan(seed, seconds, PROGRAMS, NETWORKS)
    async with deployment(folder) as site, clients(site.servers, folder, CLIENTS) as load:
        say(f"seed {seed}: up after {time.monotonic() - began_s:.1f} s; {len(plan)} events")
        await _unfold(site, plan, say)
        await site.healed()
        samples = await load.finish()
        say(f"{samples.asked} samples: {samples.late} late, {samples.missing} missing")
        telemetry = await _settled(site, say)
        starts = sum(program.starts for program in site.programs.values())
    return Outcome(seed, time.monotonic() - began_s, len(plan), starts, samples, telemetry)


async def _unfold(site: Deployment, plan: list[Event], say: Say) -> None:
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for event in plan:
            await asyncio.sleep(max(began_s + event.at_s - time.monotonic(), 0))
            say(f"{event.at_s:6.1f} s  {event}")
            group.create_task(site.happen(event))


async def _settled(site: Deployment, say: Say) -> Audit:
    """Let the fleet fall silent and the controller mend its holes; then compare their books.

    The fleet holds its book closed while it runs, so it is ended for a look. If something is
    missing still, it is started again to be asked for it; what is missing after some looks is lost.
    """
    await _silence(site)
    fleet = site.programs["fleet"]
    found = Audit(0, 0, 0, 0)
    for attempt in range(TRIES):
        await asyncio.sleep(SETTLE_S)
        await fleet.hold()
        found = await _audit(site)
        if not found.lost:
            break
        say(f"look {attempt + 1}: {found.lost} of {found.numbered} messages are not stored yet")
        fleet.release()
        await asyncio.wait_for(fleet.up.wait(), 60)
    return found


async def _audit(site: Deployment) -> Audit:
    """What the books say, after a moment for what is under way."""
    found = audit(site.ledger, site.store)
    for _ in range(20):
        if not found.lost:
            break
        await asyncio.sleep(0.1)
        found = audit(site.ledger, site.store)
    return found


async def _silence(site: Deployment) -> None:
    """Set every device, also those that are still on their way back, to say nothing more."""
    words = module("cloud.fleet", "set", "all", *QUIET, "--broker", site.broker, "--fleet", FLEET)
    for _ in range(TRIES):
        with (site.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *words, cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=log
            )
        out, _ = await process.communicate()
        if f"{DEVICES} of {DEVICES} devices" in out.decode():
            return
        await asyncio.sleep(1)
    raise RuntimeError(f"the fleet could not be set; see {site.folder / 'log'}")
