"""``cloud.fleet rollout`` with a real broker, server, recorder and devices, and deaths."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.broker import Mosquitto, mosquitto
from tests.support.fleets import process, start, stop, wait_for_line
from tests.support.processes import ROOT, environment, start_server

DEVICES = 6
SETTINGS = "{rate_per_s: 40, telemetry_s: 0.3, exit_threshold: 1}"
SCENARIO = f"name: quick\nduration: 1h\nsettings: {SETTINGS}\n"
RULES = ("--waves", "0.4,1", "--watch", "1s", "--samples", "50", "--control", "0.2")


@dataclass
class Running:
    """A fleet that works, and the flags for commands."""

    broker: Mosquitto
    flags: list[str]
    folder: Path

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        flags = self.flags if words[0] not in ("status", "pause") else self.flags[2:]
        line = [sys.executable, "-m", "cloud.fleet", "rollout", *words, *flags]
        return subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True)

    def models(self) -> list[str]:
        """What the devices report to work with."""
        line = [sys.executable, "-m", "cloud.fleet", "get", "all", *self.flags[:2]]
        done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True)
        lines = [one for one in done.stdout.splitlines() if one.startswith("  reported")]
        return [one.split("model=")[1].split()[0] for one in lines]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tmp_path = tmp_path_factory.mktemp("rollout")
    scenario, store = tmp_path / "quick.yaml", tmp_path / "store"
    scenario.write_text(SCENARIO)
    models = ("--model", "mnist-binary", "--model", "mnist-binary-paper")
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(tmp_path / "broker"))
        server = stack.enter_context(start_server(*models))
        words = ["--devices", str(DEVICES), "--broker", broker.url, "--server", server.address]
        words += ["--scenario", str(scenario), "--ledger", str(tmp_path / "ledger")]
        fleet = stack.enter_context(process("device.fleet", *words, log=tmp_path / "log"))
        keep = ["record", "--broker", broker.url, "--store", str(store)]
        stack.enter_context(process("cloud.fleet", *keep, log=tmp_path / "log"))
        wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
        yield Running(broker, ["--broker", broker.url, "--store", str(store)], tmp_path)


def test_a_rollout_is_paused_and_taken_back(running: Running) -> None:
    words = ["rollout", "start", "mnist-binary-paper", *RULES, "--lose-at-most", "0.00001"]
    with process("cloud.fleet", *words, *running.flags) as driving:
        wait_for_line(driving, "wave 1: 2 devices have it")
        done = running.command("pause")
        assert "paused" in done.stdout
        assert driving.wait(20) == 0
    time.sleep(1)
    assert sorted(running.models()) == ["mnist-binary"] * 4 + ["mnist-binary-paper"] * 2
    done = running.command("abort")
    assert done.returncode == 0, done.stderr
    assert "stopped, 2 devices are back" in done.stdout
    assert running.models() == ["mnist-binary"] * DEVICES
    refused = running.command("pause")
    assert refused.returncode == 2
    assert "roll-out 1 is stopped" in refused.stderr


def test_a_rollout_goes_on_after_the_death_of_its_process_and_of_the_broker(
    running: Running,
) -> None:
    words = ["rollout", "start", "mnist-binary-paper", *RULES, "--lose-at-most", "0.2"]
    with (running.folder / "log").open("a") as log:
        first = start("cloud.fleet", [*words, *running.flags], log.fileno())
        wait_for_line(first, "wave 1: 2 devices have it")
        stop(first, signal.SIGKILL)
    assert "running" in running.command("status").stdout
    again = running.command("start", "mnist-binary", *RULES)
    assert again.returncode == 2
    assert "roll-out 2 is running; use rollout resume or abort" in again.stderr
    running.broker.kill()
    running.broker.start()
    done = running.command("resume")
    assert done.returncode == 0, done.stderr
    assert f"done, {DEVICES} devices have mnist-binary-paper" in done.stdout
    assert running.models() == ["mnist-binary-paper"] * DEVICES
    assert "control group: 1 took" in running.command("status").stdout
