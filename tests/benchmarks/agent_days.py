"""Seven days of an agent on an accelerated clock, with every kind of fault in random order.

The broker, with TLS, and the server are real programs. The agent is the real one too, but runs in
this process, so that its clock can be accelerated, its disk filled and its wall clock set. No
sample and no telemetry may be lost.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device.agent import supply as supplies
from device.agent.command import work
from device.agent.flags import parse
from device.agent.pace import Pace
from shared.bundles import bundle_path
from shared.errors import BrokerError
from shared.fleet.broker import BrokerClient, parse_broker
from shared.model.bundle import make_bundle, read_bundle, write_bundle
from tests.support.broker import Mosquitto, mosquitto, provisioning
from tests.support.clouds import free_port
from tests.support.processes import start_server

DAYS = 7.0
DAY_S = 86_400.0
SPEED = 6_000.0  # a day in 14.4 seconds
RATE_PER_S, TELEMETRY = 1 / 60, "10m"  # on the accelerated clock
LAST_S = 60.0  # real time for the last samples and messages
FAULT_DAYS = 0.4  # how long a fault lasts
MODEL = "mnist-binary-paper"
SEED = 1


@dataclass
class Life:
    """An agent with its broker and server, and the pictures and messages that are counted."""

    folder: Path
    broker: Mosquitto
    flags: list[str]
    port: int
    pace: Pace
    server_stack: ExitStack = field(default_factory=ExitStack)
    task: asyncio.Task[None] | None = None
    heard: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    taken: int = 0
    databases: list[sqlite3.Connection] = field(default_factory=list)
    offset_s: float = 0.0

    def start_server(self) -> None:
        """Start the server, on the same port each time."""
        flags = ("--models", str(self.folder / "served"), "--models-poll-seconds", "0.3")
        self.server_stack = ExitStack()
        self.server_stack.enter_context(start_server(*flags, port=self.port))

    def start_agent(self) -> None:
        """Start the agent with its present files."""
        self.task = asyncio.create_task(work(parse(self.flags), self.pace))

    async def stop_agent(self) -> None:
        """Stop the agent in an orderly way."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def pass_days(self, days: float) -> None:
        """Wait for ``days`` of the accelerated clock, in which the agent must not end."""
        await asyncio.sleep(days * DAY_S / self.pace.speed)
        if self.task is not None and self.task.done():
            self.task.result()

    def ledger(self) -> sqlite3.Connection:
        """Return the open database of the agent's ledger."""
        return next(one for one in reversed(self.databases) if _is_open_ledger(one))

    def undelivered(self) -> int:
        """Return how many entries ledger and spool still hold; to be called while the
        agent is off.
        """
        return sum(
            _count(self.folder / name, text)
            for name, text in (
                ("ledger", "SELECT count(*) FROM telemetry WHERE NOT confirmed"),
                ("spool", "SELECT count(*) FROM sample WHERE refused IS NULL"),
            )
        )


def _count(path: Path, text: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute(text).fetchone()[0])


def _is_open_ledger(database: sqlite3.Connection) -> bool:
    try:
        return bool(database.execute("SELECT 1 FROM telemetry LIMIT 1"))
    except sqlite3.Error:
        return False


async def full_disk(life: Life) -> None:
    """The ledger cannot grow."""
    (pages,) = life.ledger().execute("PRAGMA page_count").fetchone()
    life.ledger().execute(f"PRAGMA max_page_count = {pages}")
    await life.pass_days(FAULT_DAYS)
    life.ledger().execute("PRAGMA max_page_count = 1000000")


async def read_only_disk(life: Life) -> None:
    """The ledger cannot be written."""
    life.ledger().execute("PRAGMA query_only = 1")
    await life.pass_days(FAULT_DAYS)
    life.ledger().execute("PRAGMA query_only = 0")


async def corrupt(life: Life, name: str) -> None:
    """Damage a file while the agent is off, after broker and server have received its contents."""
    await life.pass_days(FAULT_DAYS / 4)
    await life.stop_agent()
    while life.undelivered():  # undelivered entries would be lost with the file
        life.start_agent()
        await life.pass_days(FAULT_DAYS / 4)
        await life.stop_agent()
    (life.folder / name).write_bytes(random.Random(SEED).randbytes(20_000))
    life.start_agent()
    await life.pass_days(FAULT_DAYS)


async def torn(life: Life, name: str, index: str) -> None:
    """Damage a page of a file that holds no entries, while many entries wait in the file."""
    away = name == "spool"
    stop, start = (
        (life.server_stack.close, life.start_server)
        if away
        else (lambda: life.broker.kill(signal.SIGTERM), life.broker.start)
    )
    await asyncio.to_thread(stop)
    await life.pass_days(FAULT_DAYS / 2)
    await life.stop_agent()
    path = life.folder / name
    with closing(sqlite3.connect(path)) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
        text = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (page,) = database.execute(text, (index,)).fetchone()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = bytes(size)
    path.write_bytes(data)
    life.start_agent()
    await asyncio.to_thread(start)
    await life.pass_days(FAULT_DAYS)


async def torn_ledger(life: Life) -> None:
    """Damage the ledger while its messages wait for the broker."""
    await torn(life, "ledger", "epoch")


async def torn_spool(life: Life) -> None:
    """Damage the spool while its samples wait for the server."""
    await torn(life, "spool", "waiting")


async def corrupt_ledger(life: Life) -> None:
    """Damage the ledger, so that a new one is begun."""
    await corrupt(life, "ledger")


async def corrupt_spool(life: Life) -> None:
    """Damage the spool, so that a new one is begun."""
    await corrupt(life, "spool")


async def no_broker(life: Life) -> None:
    """Stop the broker for a day."""
    await asyncio.to_thread(life.broker.kill, signal.SIGTERM)
    await life.pass_days(1.0)
    await asyncio.to_thread(life.broker.start)
    await life.pass_days(FAULT_DAYS)


async def no_server(life: Life) -> None:
    """Stop the server for a day."""
    await asyncio.to_thread(life.server_stack.close)
    await life.pass_days(1.0)
    await asyncio.to_thread(life.start_server)
    await life.pass_days(FAULT_DAYS)


async def other_model(life: Life) -> None:
    """Give the server another version of the model under the same name."""
    path = life.folder / "served" / f"{MODEL}.safetensors"
    bundle = read_bundle(path)
    tensors = dict(bundle.tensors)
    name = max(one for one in tensors if one.startswith("cloud."))
    changed = tensors[name].copy()
    changed.flat[0] += 1
    write_bundle(make_bundle(bundle.metadata, {**tensors, name: changed}), path)
    await life.pass_days(FAULT_DAYS)


async def renewed_certificates(life: Life) -> None:
    """Restart the broker with certificates of another authority."""
    await asyncio.to_thread(life.broker.kill, signal.SIGTERM)
    provisioning().certificates(life.broker.folder, "localhost")
    await asyncio.to_thread(life.broker.start)
    await life.pass_days(FAULT_DAYS)


async def clock_jumps(life: Life) -> None:
    """Set the wall clock to 1970, then to the right time, then an hour back."""
    for offset_s in (-time.time() - life.offset_s + 100, 0.0, -3600.0, 0.0):
        life.offset_s = offset_s
        await life.pass_days(FAULT_DAYS / 4)


async def twin(life: Life) -> None:
    """Run another device with the same name for a while."""
    words = [word.replace("/ledger", "/twin").replace("/spool", "/twins") for word in life.flags]
    words += ["--rate", "0"]  # it only takes over the connection
    other = asyncio.create_task(work(parse(words), Pace()))
    await life.pass_days(FAULT_DAYS / 4)
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    await life.pass_days(FAULT_DAYS)


FAULTS: tuple[Callable[[Life], Awaitable[None]], ...] = (
    full_disk,
    read_only_disk,
    corrupt_ledger,
    corrupt_spool,
    torn_ledger,
    torn_spool,
    no_broker,
    no_server,
    other_model,
    renewed_certificates,
    clock_jumps,
    twin,
)


async def live(life: Life, seed: int) -> list[str]:
    """Cause all faults in random order, then let the remaining days pass; return the order."""
    order = list(FAULTS)
    random.Random(seed).shuffle(order)
    life.start_server()
    life.start_agent()
    listener = asyncio.create_task(listen(life))
    try:
        await life.pass_days(FAULT_DAYS)
        for fault in order:
            await fault(life)
        await life.pass_days(max(DAYS - life.pace.elapsed_s / DAY_S, FAULT_DAYS))
        await life.stop_agent()
        end_s = time.monotonic() + LAST_S
        while life.undelivered() and time.monotonic() < end_s:  # sending takes real time
            life.start_agent()
            await asyncio.sleep(3.0)
            await life.stop_agent()
        await asyncio.sleep(1.0)
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        await asyncio.to_thread(life.server_stack.close)
    return [fault.__name__ for fault in order]


async def listen(life: Life) -> None:
    """Receive the telemetry in a persistent session, also after the broker was restarted."""

    def receive(_: str, payload: bytes, __: int) -> None:
        message = json.loads(payload)
        life.heard[message.get("epoch", ""), message["sequence"]] = message

    while True:
        try:
            broker = parse_broker(
                f"mqtts://localhost:{life.broker.port}",
                "controller",
                life.broker.passwords["controller"],
                ca=life.broker.folder / "ca.crt",
            )
            async with BrokerClient(broker, "listener", receive) as client:
                await client.listen("taper/v1/city/+/telemetry")
                await client.lost()
        except BrokerError:
            await asyncio.sleep(0.2)


def lost_telemetry(life: Life) -> int:
    """Count the sequence numbers of each epoch that never came, and the dropped messages."""
    epochs: dict[str, list[int]] = {}
    for epoch, sequence in life.heard:
        epochs.setdefault(epoch, []).append(sequence)
    missing = sum(max(numbers) - len(numbers) for numbers in epochs.values())
    return missing + sum(int(message.get("dropped", 0)) for message in life.heard.values())


def lost_samples(life: Life) -> int:
    """Count the pictures whose answers were not counted, and the answers that were
    counted twice.
    """
    names = ("answered_device", "answered_cloud")
    answered = sum(int(message.get(name, 0)) for message in life.heard.values() for name in names)
    return abs(life.taken - answered)


def agent_days(seed: int = SEED) -> dict[str, Any]:
    """Run the days; return the pictures taken, the messages received, and the losses."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        (folder / "served").mkdir()
        shutil.copy(bundle_path(MODEL), folder / "served")
        users = ("city/pi-kitchen",)
        broker = stack.enter_context(mosquitto(folder / "broker", users))
        port = free_port()
        flags = [
            *("--device", "pi-kitchen", "--fleet", "city", "--model", MODEL),
            *("--broker", f"mqtts://localhost:{broker.port}"),
            *("--password", broker.passwords["city/pi-kitchen"]),
            *("--broker-ca", str(broker.folder / "ca.crt"), "--server", f"127.0.0.1:{port}"),
            *("--ledger", str(folder / "ledger"), "--spool", str(folder / "spool")),
            *("--model-folder", str(folder / "models"), "--no-exit"),
            *("--rate", str(RATE_PER_S), "--telemetry", TELEMETRY),
        ]
        life = Life(folder, broker, flags, port, Pace(SPEED))
        with watched(life):
            order = asyncio.run(live(life, seed))
        return {
            "days": round(life.pace.elapsed_s / DAY_S, 2),
            "seed": seed,
            "faults": order,
            "taken": life.taken,
            "telemetry": len(life.heard),
            "telemetry_lost": lost_telemetry(life),
            "samples_lost": lost_samples(life),
            "failed": sum(message.get("failed", 0) for message in life.heard.values()),
        }


class watched:  # noqa: N801 - a context
    """Counts the pictures that the agent takes, records its databases, and sets the wall clock."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def __enter__(self) -> None:
        life = self._life
        self._take, self._connect, self._time = (
            supplies.ArraySupply.take,
            sqlite3.connect,
            time.time,
        )
        take, connect, real = self._take, self._connect, self._time

        async def counted(self: supplies.ArraySupply) -> supplies.Sample | None:
            life.taken += 1
            return await take(self)

        def kept(*arguments: Any, **named: Any) -> sqlite3.Connection:
            life.databases.append(connect(*arguments, **named))
            return life.databases[-1]

        supplies.ArraySupply.take = counted  # type: ignore[method-assign]
        sqlite3.connect = kept  # type: ignore[assignment]
        time.time = lambda: real() + life.offset_s

    def __exit__(self, *error: object) -> None:
        supplies.ArraySupply.take = self._take  # type: ignore[method-assign]
        sqlite3.connect = self._connect
        time.time = self._time


if __name__ == "__main__":
    seeds = [int(word) for word in sys.argv[1:]] or [SEED]
    print(json.dumps([agent_days(seed) for seed in seeds], indent=1))
