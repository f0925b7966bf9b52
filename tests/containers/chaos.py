"""Chaos in containers: ``python -m tests.containers --chaos``, or ``make chaos CONTAINERS=1``.

The plan, the clients and the audit are those of ``tests.chaos``; what happens, happens to the
containers of ``deploy/compose.yaml`` and in their networks, by ``tc`` and ``iptables``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.plan import Event, Fault, make_plan
from tests.chaos.run import Outcome
from tests.chaos.samples import clients
from tests.containers.engine import Engine
from tests.containers.images import TOOLS
from tests.containers.progress import say
from tests.containers.stack import PROXY, Stack, stack
from tests.containers.trial import labels, settled

PROGRAMS = ("broker", "cloud-1", "cloud-2", "recorder", "fleet")
NETWORKS = ("broker", "cloud-1", "cloud-2")
CLIENTS = 4
LOSS = 0.02
BURST = "burst 3000 latency 400ms"
Say = Callable[[str], None]


def spoil(event: Event) -> str:
    """The shell commands that make a container's network bad, as the event says."""
    both = ("INPUT", "OUTPUT")
    match event.fault:
        case Fault.CUT:
            reset = "-p tcp -j REJECT --reject-with tcp-reset"
            return " && ".join(f"iptables -A {chain} {reset}" for chain in both)
        case Fault.HUSH:
            return " && ".join(f"iptables -A {chain} -j DROP" for chain in both)
        case Fault.NARROW:
            rate = f"{8 * event.amount:.0f}bit"
            return f"tc qdisc replace dev eth0 root tbf rate {rate} {BURST}"
        case Fault.DELAY:
            # A kernel without netem gets a queue that is about as slow.
            delay = f"tc qdisc replace dev eth0 root netem delay {1000 * event.amount:.0f}ms"
            queue = f"tc qdisc replace dev eth0 root tbf rate 400kbit {BURST}"
            random = f"-m statistic --mode random --probability {LOSS} -j DROP"
            return f"iptables -A INPUT {random} && ({delay} 2>/dev/null || {queue})"
        case Fault.KILL:
            raise ValueError("a program is killed, not its network")


def inside(running: Stack, service: str, script: str) -> None:
    """Run a shell script in the network of a service's container, as its administrator."""
    network = f"container:{running.container(service)}"
    words = ["run", "--rm", "--network", network, "--cap-add", "NET_ADMIN", "--user", "0"]
    running.engine.docker(*words, "--entrypoint", "sh", TOOLS, "-c", script)


async def happen(running: Stack, event: Event, busy: dict[str, asyncio.Lock]) -> None:
    """Let ``event`` happen, to its end; one at a time to each container."""
    async with busy[event.target]:
        if event.fault is Fault.KILL:
            await asyncio.to_thread(running.docker, "kill", event.target)
            await asyncio.sleep(event.seconds)
            await asyncio.to_thread(running.docker, "start", event.target)
            return
        await asyncio.to_thread(inside, running, event.target, spoil(event))
        await asyncio.sleep(event.seconds)
        heal = "iptables -F; tc qdisc del dev eth0 root 2>/dev/null; true"
        await asyncio.to_thread(inside, running, event.target, heal)


async def chaos(running: Stack, seed: int, seconds: float, say: Say) -> Outcome:
    """Let the plan of ``seed`` happen for ``seconds``, and audit."""
    began_s = time.monotonic()
    plan = make_plan(seed, seconds, PROGRAMS, NETWORKS)
    busy = {name: asyncio.Lock() for name in PROGRAMS}
    async with clients([PROXY], running.folder, CLIENTS, labels) as load:
        start_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for event in plan:
                await asyncio.sleep(max(start_s + event.at_s - time.monotonic(), 0))
                say(f"{event.at_s:6.1f} s  {event}")
                group.create_task(happen(running, event, busy))
        await asyncio.to_thread(running.wait)
        samples = await load.finish()
    say(f"{samples.asked} samples: {samples.late} late, {samples.missing} missing")
    telemetry = await asyncio.to_thread(settled, running)
    kills = sum(event.fault is Fault.KILL for event in plan)
    starts = len(running.services) + kills
    return Outcome(seed, time.monotonic() - began_s, len(plan), starts, samples, telemetry)


def main() -> int:
    """Exit status 0 if the run was green."""
    parser = argparse.ArgumentParser(prog="python -m tests.containers.chaos")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="of trouble")
    options = parser.parse_args()
    engine = Engine(own=os.environ["TAPER_CONTAINERS"] == "own")
    with (
        tempfile.TemporaryDirectory(prefix="taper-stack-") as folder,
        stack(engine, Path(folder)) as running,
    ):
        outcome = asyncio.run(chaos(running, options.seed, options.seconds, say))
    print(json.dumps(outcome.to_json()))
    return 0 if outcome.green else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(f"error: {error}")
