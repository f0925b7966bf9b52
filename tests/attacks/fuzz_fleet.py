"""Fuzz a running fleet over MQTT: ``python -m tests.attacks.fuzz_fleet --messages 100000``.

Mutated and random messages, seeded, on every topic of some devices, a part of them retained.
Recorder, watch, dashboard and agent must all be alive at the end, and current: each shows or
does something that was asked for after the last hostile message.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import BrokerError
from shared.fleet.broker import BrokerClient
from shared.fleet.messages import (
    PROTOCOL,
    Birth,
    Command,
    Death,
    Desired,
    DeviceSettings,
    Message,
    MessageKind,
    RefusedSetting,
    Reported,
    Result,
    Telemetry,
)
from shared.fleet.payloads import dump
from tests.support.broker import Mosquitto, mosquitto
from tests.support.clouds import free_port
from tests.support.fleets import process
from tests.support.processes import ROOT, environment, start_server

VICTIMS = 20
AGENT = "pi"
RETAINED_SHARE = 0.2
AT_ONCE = 500
LIMIT_S = 60.0
ODD: tuple[object, ...] = (
    None, True, -1, 0, 2**32, 10**400, 1e308, "", "x", "x" * 2000, "a\0b", "\ud800", [], {}, [[]],
    {"a": {}}, [None] * 100, {str(number): "x" for number in range(100)},
)  # fmt: skip
SCENARIO = "name: fuzz\nduration: 20h\nsettings: {rate_per_s: 1, telemetry_s: 1}\n"


@dataclass
class Outcome:
    """The programs that were dead or not current at the end, and tracebacks in their logs."""

    sent: int = 0
    dead: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)


class Messages:
    """Hostile messages from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def next(self) -> tuple[str, bytes, bool]:
        """Return topic, payload and whether it is to be retained."""
        chance = self._random
        name = f"victim-{chance.randrange(VICTIMS):02d}"
        kind = chance.choice(list(MessageKind))
        if kind in (MessageKind.DESIRED, MessageKind.COMMAND) and chance.random() < 0.5:
            name = AGENT
        payload = dump(self._valid(name, kind))
        # What operators may send is valid only for victims: the agent must stay comparable.
        if name == AGENT or chance.random() < 0.9:
            payload = self._spoil(payload)
        level = kind.value
        if chance.random() < 0.02:
            name, level = chance.choice((("x y", level), (name, "nonsense"), (name, level + "/x")))
        return f"taper/v1/default/{name}/{level}", payload, chance.random() < RETAINED_SHARE

    def _valid(self, name: str, kind: MessageKind) -> Message:
        chance = self._random
        # A version at the limit would be the last that the agent takes.
        number = chance.choice((1, 2, 3, 1000, 10**9)[: 4 if name == AGENT else 5])
        settings = DeviceSettings(chance.choice(("0.5", "auto")), chance.random(), 1.0, 10.0)
        made: dict[MessageKind, Message] = {
            MessageKind.BIRTH: Birth(name, number, number, 1.0, PROTOCOL, ("group",)),
            MessageKind.DEATH: Death(name, number, "gone"),
            MessageKind.DESIRED: Desired(number, settings),
            MessageKind.REPORTED: Reported(
                name, number, number, settings, (RefusedSetting("model", "none"),)
            ),
            MessageKind.TELEMETRY: Telemetry(name, 1, number, chance.choice((0.0, 1.7e9, 2e11))),
            MessageKind.COMMAND: Command("c", "resend", {"first": "1", "last": "x"}),
            MessageKind.RESULT: Result(name, "c", ok=True, values={"sent": "0", "last": "x"}),
        }
        return made[kind]

    def _spoil(self, payload: bytes) -> bytes:
        chance = self._random
        how = chance.randrange(8)
        if how == 0:
            return chance.randbytes(chance.randrange(200))
        if how == 1:
            return payload[: chance.randrange(len(payload))]
        if how == 2:
            place = chance.randrange(len(payload))
            return payload[:place] + chance.randbytes(1) + payload[place + 1 :]
        value = json.loads(payload)
        key = chance.choice(list(value))
        if how == 3:  # deep, around the limit of recursion
            depth = chance.choice((3, 100, chance.randrange(900, 1010), 5000))
            rest = json.dumps({k: v for k, v in value.items() if k != key})[1:]
            nested = (
                "[" * depth + "]" * depth
                if chance.random() < 0.5
                else ('{"a":' * depth + "1" + "}" * depth)
            )
            return f'{{"{key}":{nested},{rest}'.replace(",}", "}").encode()
        if how == 4:
            return payload[:-1] + b',"%s":1}' % key.encode()
        value[key] = chance.choice(ODD)
        if how == 5:
            value["surprise"] = chance.choice(ODD)
        return json.dumps(value).encode()


async def bombard(broker: Mosquitto, count: int, seed: int) -> None:
    """Send ``count`` hostile messages."""
    messages = Messages(seed)
    async with BrokerClient(broker.broker, "fuzzer", lambda *_: None, session_s=0) as client:
        waiting: list[asyncio.Future[None]] = []
        for _ in range(count):
            topic, payload, retain = messages.next()
            waiting.append(client.post(topic, payload, retain=retain))
            if len(waiting) >= AT_ONCE:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


async def tell(broker: Mosquitto, topic: str, payload: bytes) -> None:
    """Publish one message."""
    async with BrokerClient(broker.broker, "teller", lambda *_: None, session_s=0) as client:
        await client.post(topic, payload, retain=True)


def within(limit_s: float, holds: Callable[[], bool]) -> bool:
    """Whether ``holds`` is true within ``limit_s``."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if holds():
            return True
        time.sleep(0.5)
    return False


def fuzz(folder: Path, count: int, seed: int) -> Outcome:
    """Start broker, server, agent, recorder, watch and dashboard; fuzz; look at all of them."""
    scenario = folder / "fuzz.yaml"
    scenario.write_text(SCENARIO)
    store, port = folder / "store.sqlite", free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(folder / "broker"))
        server = stack.enter_context(start_server())
        at = ["--broker", broker.url]
        agent = ["--device", AGENT, "--server", server.address, "--ledger", str(folder / "ledger")]
        commands = {
            "agent": ("device.agent", [*agent, "--model-folder", str(folder / "models")]),
            "recorder": (
                "cloud.fleet",
                ["run", str(scenario), "--speed", "1", "--store", str(store)],
            ),
            "watch": ("cloud.fleet", ["watch"]),
            "dashboard": ("cloud.dashboard", ["--port", str(port)]),
        }
        logs = {name: folder / f"{name}.log" for name in commands}
        running = {
            name: stack.enter_context(process(module, *words, *at, log=logs[name]))
            for name, (module, words) in commands.items()
        }
        if not within(LIMIT_S, lambda: stored(store, AGENT) > 0 and AGENT in page(port)):
            raise RuntimeError("the programs did not start: " + logs["recorder"].read_text()[-500:])
        asyncio.run(bombard(broker, count, seed))
        outcome = Outcome(count)
        before = stored(store, AGENT)
        birth = Birth("latecomer", 1, 1, 1.0, PROTOCOL)
        asyncio.run(tell(broker, "taper/v1/default/latecomer/birth", dump(birth)))
        words = [sys.executable, "-m", "cloud.fleet", "set", AGENT, "fraction=0.3", *at]
        done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
        current = {
            "agent": lambda: done.returncode == 0,
            "recorder": lambda: stored(store, AGENT) > before,
            "dashboard": lambda: "latecomer" in page(port),
        }
        outcome.stale = [name for name, holds in current.items() if not within(LIMIT_S, holds)]
        outcome.dead = [name for name, one in running.items() if one.poll() is not None]
        if "watch" not in outcome.dead and not sees(running["watch"], VICTIMS):
            outcome.stale.append("watch")
        for name, log in logs.items():
            if "Traceback" in log.read_text(errors="replace"):
                outcome.tracebacks.append(name)
    return outcome


def stored(store: Path, device: str) -> int:
    """How many messages of telemetry of ``device`` are stored."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        row = db.execute("SELECT count(*) FROM telemetry WHERE device = ?", (device,)).fetchone()
        return int(row[0])
    return 0


def page(port: int) -> str:
    """The dashboard's page as it is served; empty if it is not."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as got:
        text: bytes = got.read()
        return text.decode(errors="replace")
    return ""


def sees(watching: subprocess.Popen[str], least: int) -> bool:
    """End ``watch`` in order; whether its last line counts at least so many devices."""
    watching.terminate()
    assert watching.stdout is not None
    lines = [line for line in watching.stdout.read().splitlines() if line.startswith("fleet ")]
    return bool(lines) and int(lines[-1].split(" of ")[1].split()[0]) > least


def main() -> None:
    """Fuzz, and end with status 1 if anything is dead or behind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, suppress(BrokerError):
        outcome = fuzz(Path(folder), given.messages, given.seed)
        seconds = time.monotonic() - began_s
        print(f"{outcome.sent} messages in {seconds:.0f} s; dead: {outcome.dead}; "
              f"behind: {outcome.stale}; tracebacks: {outcome.tracebacks}")  # fmt: skip
        if outcome.dead or outcome.stale or outcome.tracebacks:
            sys.exit(1)


if __name__ == "__main__":
    main()
