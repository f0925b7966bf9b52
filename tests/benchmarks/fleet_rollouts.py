"""Counts devices with the wrong model after roll-outs whose controller or broker was killed.

    python -m tests.benchmarks.fleet_rollouts --rollouts 20

Programs are killed at random moments; broker, server, recorder and 10 devices are real. Half of the
models are as good as the rules require and must be on all devices in the end; the others give wrong
answers and must be on none.
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
MODELS = ("mnist-binary", "mnist-again")  # the same under two names
LATEST_KILL_S = 8.0
ENDS_WITHIN_S = 120.0
CONNECTED_WITHIN_S = 60.0


@dataclass
class Site:
    """The programs with which the roll-outs run."""

    broker: Mosquitto
    flags: list[str]
    log: Path

    def rollout(self, *words: str) -> subprocess.Popen[str]:
        """Start a ``rollout`` command."""
        with self.log.open("a") as log:
            return start("cloud.fleet", ["rollout", *words, *self.flags], log.fileno())

    def wrong(self, model: str) -> int:
        """Return how many devices do not report to work with ``model``.

        Devices that connect again after a death are waited for.
        """

        async def ask() -> int:
            async with running(FleetClient(self.broker.broker, "default")) as client:
                devices = client.state.devices.values()
                end_s = time.monotonic() + CONNECTED_WITHIN_S
                while True:
                    said = [one.reported.settings.model for one in devices
                            if one.online and one.reported is not None]  # fmt: skip
                    if said.count(model) == DEVICES or time.monotonic() > end_s:
                        return DEVICES - said.count(model)
                    await asyncio.sleep(0.1)

        return asyncio.run(ask())


def one(site: Site, number: int, model: str, chance: random.Random) -> str:
    """Run roll-out ``number``, killing a program in it; return what ``status`` prints of it."""
    driving = site.rollout("start", model, *RULES)
    time.sleep(LATEST_KILL_S * chance.random())
    if chance.random() < 0.5:
        stop(driving, signal.SIGKILL)
    else:
        site.broker.kill()
        time.sleep(chance.random())
        site.broker.start()
    end_s = time.monotonic() + ENDS_WITHIN_S
    while (left_s := end_s - time.monotonic()) > 0:
        try:
            driving.wait(left_s)
        except subprocess.TimeoutExpired:
            break
        text = status(site)
        begun = f"roll-out {number} " in text
        if begun and any(word in text for word in (": done", ": stopped")):
            return text
        # Its process was killed or could not reach the broker: run it again, as an operator would.
        driving = site.rollout("resume") if begun else site.rollout("start", model, *RULES)
    stop(driving)
    text = status(site)
    site.rollout("abort").wait()  # so that the next one can begin
    return text


def status(site: Site) -> str:
    """Return what ``rollout status`` prints."""
    words = [sys.executable, "-m", "cloud.fleet", "rollout", "status", *site.flags[2:]]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    return done.stdout


def killed_wrong(rollouts: int, seed: int = 1) -> tuple[int, int]:
    """Return how many devices had the wrong model after so many roll-outs with a killed program.

    The second value is how many of the roll-outs did not end.
    """
    chance = random.Random(seed)
    wrong, unjudged, current = 0, 0, MODELS[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scenario, store = folder / "quick.yaml", folder / "store"
        scenario.write_text(SCENARIO)
        broker = stack.enter_context(mosquitto(folder / "broker"))
        again, bad = shifted_bundle(folder, MODELS[1], 0), shifted_bundle(folder)
        models = (MODELS[0], str(again), str(bad))
        names = [word for model in models for word in ("--model", model)]
        server = stack.enter_context(start_server(*names))
        words = ["--devices", str(DEVICES), "--broker", broker.url, "--server", server.address]
        words += ["--scenario", str(scenario), "--ledger", str(folder / "ledger")]
        fleet = stack.enter_context(process("device.fleet", *words, log=folder / "log"))
        keep = ["record", "--broker", broker.url, "--store", str(store)]
        stack.enter_context(process("cloud.fleet", *keep, log=folder / "log"))
        wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
        site = Site(broker, ["--broker", broker.url, "--store", str(store)], folder / "log")
        for number in range(1, rollouts + 1):
            good = number % 2 == 1
            model = next(name for name in MODELS if name != current) if good else "mnist-shifted"
            said = one(site, number, model, chance)
            # Whether the rules accepted or stopped it, no device may differ from the record.
            done = ": done" in said
            current = model if done else current
            wrong += DEVICES * (done and not good)
            missing = site.wrong(current)
            wrong += missing
            unjudged += not done and ": stopped" not in said
            sys.stderr.write(f"{number}: {model}: {missing} of {DEVICES} wrong; {said.strip()}\n")
    return wrong, unjudged


def main() -> None:
    """Print how many devices were wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    wrong, unjudged = killed_wrong(given.rollouts, given.seed)
    sys.stdout.write(f"rollout_killed_wrong {wrong}\nrollout_killed_unended {unjudged}\n")


if __name__ == "__main__":
    main()
