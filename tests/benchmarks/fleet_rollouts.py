"""Roll-outs whose controller or broker is killed at a random moment: who has the wrong model after?

    python -m tests.benchmarks.fleet_rollouts --rollouts 20

Broker, server, recorder and 10 devices are real. Half of the models are as good as the rules ask
and must be everywhere in the end; the others give wrong answers and must be gone.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cloud.fleet.client import FleetClient
from cloud.fleet.running import running
from tests.support.broker import Mosquitto, mosquitto
from tests.support.fleets import process, shifted_bundle, start, stop, wait_for_line
from tests.support.processes import ROOT, environment, start_server

DEVICES = 10
SETTINGS = "{rate_per_s: 20, telemetry_s: 0.5, exit_threshold: 1}"
SCENARIO = f"name: quick\nduration: 10h\nsettings: {SETTINGS}\n"
RULES = ("--waves", "0.3,1", "--watch", "1s", "--samples", "50", "--lose-at-most", "0.2")
MODELS = ("mnist-binary", "mnist-binary-paper")
LATEST_KILL_S = 8.0
ENDS_WITHIN_S = 90.0


@dataclass
class Site:
    """What the roll-outs run against."""

    broker: Mosquitto
    flags: list[str]
    log: Path

    def rollout(self, *words: str) -> subprocess.Popen[str]:
        """Start a ``rollout`` command."""
        with self.log.open("a") as log:
            return start("cloud.fleet", ["rollout", *words, *self.flags], log.fileno())

    def models(self) -> list[str]:
        """Return what the connected devices report to work with."""

        async def ask() -> list[str]:
            async with running(FleetClient(self.broker.broker, "default")) as client:
                devices = client.state.devices.values()
                for _ in range(300):
                    if sum(one.online and one.reported is not None for one in devices) == DEVICES:
                        break
                    await asyncio.sleep(0.1)
                return [one.reported.settings.model or "" for one in devices if one.reported]

        return asyncio.run(ask())


def one(site: Site, model: str, chance: random.Random) -> None:
    """Carry out a roll-out with a death in it, to its end."""
    driving = site.rollout("start", model, *RULES)
    time.sleep(LATEST_KILL_S * chance.random())
    if chance.random() < 0.5:
        stop(driving, signal.SIGKILL)
    else:
        site.broker.kill()
        time.sleep(chance.random())
        site.broker.start()
    end_s = time.monotonic() + ENDS_WITHIN_S
    while time.monotonic() < end_s:
        try:
            status = driving.wait(max(end_s - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            break
        if status in (0, 1) and over(site):
            return
        words = ("resume",) if started(site) else ("start", model, *RULES)
        driving = site.rollout(*words)
    stop(driving)


def status(site: Site) -> str:
    """Return what ``rollout status`` prints."""
    words = [sys.executable, "-m", "cloud.fleet", "rollout", "status", *site.flags[2:]]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    return done.stdout


def started(site: Site) -> bool:
    """Whether a roll-out is going on."""
    text = status(site)
    return "roll-out" in text and not any(word in text for word in (": done", ": stopped"))


def over(site: Site) -> bool:
    """Whether the last roll-out has ended."""
    return any(word in status(site) for word in (": done", ": stopped"))


def killed_wrong(rollouts: int, seed: int = 1) -> int:
    """Return how many devices had the wrong model after so many roll-outs with a death each."""
    chance = random.Random(seed)
    wrong, current = 0, MODELS[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scenario, store = folder / "quick.yaml", folder / "store"
        scenario.write_text(SCENARIO)
        broker = stack.enter_context(mosquitto(folder / "broker"))
        names = [
            word for name in (*MODELS, str(shifted_bundle(folder))) for word in ("--model", name)
        ]
        server = stack.enter_context(start_server(*names))
        words = ["--devices", str(DEVICES), "--broker", broker.url, "--server", server.address]
        words += ["--scenario", str(scenario), "--ledger", str(folder / "ledger")]
        fleet = stack.enter_context(process("device.fleet", *words, log=folder / "log"))
        keep = ["record", "--broker", broker.url, "--store", str(store)]
        stack.enter_context(process("cloud.fleet", *keep, log=folder / "log"))
        wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
        site = Site(broker, ["--broker", broker.url, "--store", str(store)], folder / "log")
        for number in range(rollouts):
            good = number % 2 == 0
            model = next(name for name in MODELS if name != current) if good else "mnist-shifted"
            one(site, model, chance)
            # Done or stopped, by the rules: no device may differ from what the record says.
            done = ": done" in status(site)
            current = model if done else current
            wrong += DEVICES * (done and not good)
            found = site.models()
            missing = DEVICES - found.count(current)
            wrong += missing
            sys.stderr.write(f"{number + 1}: {model}: {missing} of {DEVICES} wrong\n")
    return wrong


def main() -> None:
    """Print how many devices were wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.stdout.write(f"rollout_killed_wrong {killed_wrong(given.rollouts, given.seed)}\n")


if __name__ == "__main__":
    main()
