"""The agent left alone: each fault of the field, with a real broker and real connections."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.agent.supply import FileSupply, Sample
from shared.fleet.broker import BrokerClient
from shared.model.bundle import write_bundle
from tests.support.agents import agent, listening, to
from tests.support.broker import Mosquitto, mosquitto, provisioning
from tests.support.certificates import Authority
from tests.support.clouds import Cloud, free_port, images, serve, tiny_bundle, until
from tests.support.databases import connections, fill_disk
from tests.support.processes import start_server

OLD, NEW = tiny_bundle(0), tiny_bundle(1)
LIMIT_S = 60


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """A quick agent of the small network, with pictures for it."""
    write_bundle(OLD, tmp_path / "tiny.safetensors")
    np.save(tmp_path / "pictures.npy", images(20))
    return [
        *("--model", str(tmp_path / "tiny.safetensors"), "--ledger", str(tmp_path / "ledger")),
        *("--model-folder", str(tmp_path / "models"), "--input", str(tmp_path / "pictures.npy")),
        *("--rate", "50", "--telemetry", "0.2s", "--fraction", "1.0", "--no-exit"),
    ]


async def test_a_model_replaced_under_its_name_costs_no_sample(
    broker: Mosquitto, flags: list[str]
) -> None:
    cloud = Cloud(OLD)
    async with (
        serve(cloud) as server,
        listening(broker.broker, "replaced") as heard,
        agent(*flags, *to(broker, "replaced", server)),
    ):
        await until(lambda: heard.total("answered_cloud") > 20, LIMIT_S)
        cloud.bundle = NEW
        version = NEW.metadata.version[:16]
        await until(lambda: bool(heard) and heard[-1]["model_version"] == version, LIMIT_S)
        seen = heard.total("answered_cloud")
        await until(lambda: heard.total("answered_cloud") > seen + 20, LIMIT_S)
    assert heard.total("failed") == 0


async def test_of_two_desired_states_with_one_version_the_later_counts(
    broker: Mosquitto, flags: list[str]
) -> None:
    told: list[str] = []

    def hear(_: str, payload: bytes, __: int) -> None:
        told.append(json.loads(payload)["settings"]["fraction"])

    topic = "taper/v1/default/twice"
    async with (
        serve(Cloud(OLD)) as server,
        BrokerClient(broker.broker, "listener of two", hear, session_s=0) as client,
        agent(*flags, *to(broker, "twice", server)),
    ):
        await client.listen(f"{topic}/reported")
        for fraction in ("0.25", "0.5"):
            payload = json.dumps({"version": 1, "settings": {"fraction": fraction}}).encode()
            await client.post(f"{topic}/desired", payload, retain=True)
            await until(partial(told.__contains__, fraction), LIMIT_S)


async def test_a_version_that_cannot_be_fetched_holds_samples_until_the_old_one_is_back(
    broker: Mosquitto, flags: list[str]
) -> None:
    cloud, fetched = Cloud(OLD), 0

    async def no_part(*_: object) -> AsyncIterator[Any]:
        nonlocal fetched
        fetched += 1
        raise RuntimeError("a roll-out that is not finished")
        yield

    cloud.GetDevicePart = no_part  # type: ignore[method-assign, assignment]
    async with (
        serve(cloud) as server,
        listening(broker.broker, "held") as heard,
        agent(*flags, *to(broker, "held", server), "--rate", "10"),
    ):
        await until(lambda: heard.total("answered_cloud") > 5, LIMIT_S)
        cloud.bundle = NEW
        await until(lambda: fetched > 0, LIMIT_S)
        await until(lambda: "this server has" in heard[-1].get("error", ""), LIMIT_S)
        before = heard.total("answered_cloud")
        await asyncio.sleep(1.0)
        assert heard.total("answered_cloud") - before <= 2
        cloud.bundle = OLD
        await until(lambda: heard.total("answered_cloud") - before > 12, LIMIT_S)
    assert heard.total("failed") == 0


async def test_a_disk_that_is_full_for_a_while_costs_no_telemetry(
    broker: Mosquitto,
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = connections(monkeypatch)
    async with (
        serve(Cloud(OLD)) as server,
        listening(broker.broker, "full") as heard,
        agent(*flags, *to(broker, "full", server)),
    ):
        await until(lambda: heard.new() > 3, LIMIT_S)
        (ledger,) = opened
        fill_disk(ledger)
        await until(lambda: "waits in memory" in caplog.text, LIMIT_S)
        stopped = heard.new()
        await asyncio.sleep(1.0)
        ledger.execute("PRAGMA max_page_count = 1000000")
        await until(lambda: heard.new() >= stopped + 8, LIMIT_S)
    sequences = sorted({message["sequence"] for message in heard})
    assert sequences == list(range(sequences[0], sequences[-1] + 1))
    assert heard[-1].get("dropped", 0) == 0
    spans = sorted((message["unix_s"], message["period_s"]) for message in heard)
    gaps = [at_s - period_s - before_s for (before_s, _), (at_s, period_s) in pairwise(spans)]
    assert max(gaps) < 0.05  # every moment is covered by a message


async def test_a_disk_that_stays_read_only_begins_another_epoch_in_memory(
    broker: Mosquitto,
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("device.agent.agent.WITHOUT_DISK_S", 0.5)
    opened = connections(monkeypatch)
    async with (
        serve(Cloud(OLD)) as server,
        listening(broker.broker, "readonly") as heard,
        agent(*flags, *to(broker, "readonly", server)),
    ):
        await until(lambda: heard.new() > 2, LIMIT_S)
        opened[0].execute("PRAGMA query_only = 1")
        before, epoch = heard.new(), heard[-1]["epoch"]
        await until(lambda: heard.new() > before + 5, LIMIT_S)
        assert heard[-1]["epoch"] != epoch
        assert "kept in memory" in caplog.text
    assert heard[-1].get("dropped", 0) == 0


async def test_damaged_files_do_not_stop_the_start(
    broker: Mosquitto, flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "ledger").write_bytes(b"garbage" * 1000)
    (tmp_path / "spool").write_bytes(b"garbage" * 1000)
    words = [*flags, "--spool", str(tmp_path / "spool")]
    async with (
        serve(Cloud(OLD)) as server,
        listening(broker.broker, "damaged") as heard,
        agent(*words, *to(broker, "damaged", server)),
    ):
        await until(lambda: heard.total("answered_cloud") > 10, LIMIT_S)
    assert (tmp_path / "ledger.damaged-1").exists()
    assert (tmp_path / "spool.damaged-1").exists()


async def test_a_spool_without_a_disk_is_done_without(
    broker: Mosquitto, flags: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [*flags, "--spool", str(tmp_path / "no" / "folder" / "spool")]
    async with (
        serve(Cloud(OLD)) as server,
        listening(broker.broker, "nospool") as heard,
        agent(*words, *to(broker, "nospool", server)),
    ):
        await until(lambda: heard.total("answered_cloud") > 5, LIMIT_S)
    assert "going on without it" in caplog.text


async def test_an_outage_of_the_server_is_spooled_and_one_of_the_broker_is_kept(
    tmp_path: Path, flags: list[str]
) -> None:
    spool, port = tmp_path / "spool", free_port()
    words = [*flags, "--spool", str(spool)]
    cloud = Cloud(OLD)
    with mosquitto(tmp_path / "broker") as own:
        async with agent(*words, *to(own, "away", f"127.0.0.1:{port}")):
            async with serve(cloud, port):
                await until(lambda: len(cloud.seen) > 10, LIMIT_S)
            await asyncio.to_thread(own.kill)
            await asyncio.sleep(1.0)
            seen = len({request.id for request in cloud.seen})
            await asyncio.to_thread(own.start)
            async with listening(own.broker, "away") as heard, serve(cloud, port):
                await until(lambda: len(cloud.seen) > seen + 10, LIMIT_S)
                await until(lambda: heard.new() > 5 and not heard.missing(), LIMIT_S)
        async with asyncio.timeout(LIMIT_S), serve(cloud, port):
            while not nearly_empty(spool):  # it is locked while an agent runs
                async with agent(*words, *to(own, "away", f"127.0.0.1:{port}"), "--rate", "0"):
                    await asyncio.sleep(0.5)
    assert nearly_empty(spool)


class Taken:
    """Counts the pictures that agents take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, take = 0, FileSupply.take

        async def counted(supply: FileSupply) -> Sample | None:
            self.count += 1
            return await take(supply)

        monkeypatch.setattr(FileSupply, "take", counted)

    async def more(self, pictures: int = 20) -> None:
        """Wait until so many more have been taken."""
        wanted = self.count + pictures
        await until(lambda: self.count > wanted, LIMIT_S)


@pytest.mark.parametrize(("exit_head", "replaced"), [(False, False), (False, True), (True, True)])
async def test_every_sample_is_counted_once_over_outages_and_restarts(
    broker: Mosquitto,
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exit_head: bool,
    replaced: bool,
) -> None:
    bundle = tiny_bundle(3, exit_head)
    write_bundle(bundle, tmp_path / "tiny.safetensors")
    taken, port, name = Taken(monkeypatch), free_port(), f"once{exit_head}{replaced}"
    words = [*flags, "--spool", str(tmp_path / "spool"), *to(broker, name, f"127.0.0.1:{port}")]
    cloud = Cloud(tiny_bundle(4, exit_head) if replaced else bundle)
    async with listening(broker.broker, name) as heard:
        async with agent(*words):
            await taken.more()
        for _ in range(2):  # stopped in the middle of emptying the spool
            async with serve(cloud, port), agent(*words):
                await taken.more()
        async with asyncio.timeout(2 * LIMIT_S):
            while heard.answered() != taken.count:  # a sample may be under way at an end
                # Another version is noticed at the next sample, so there must be some.
                async with serve(cloud, port), agent(*words, "--rate", "2"):
                    await until(lambda: heard.answered() >= taken.count, LIMIT_S)
    assert heard.total("failed") == 0


def nearly_empty(path: Path) -> bool:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        (count,) = database.execute("SELECT count(*) FROM sample").fetchone()
    database.close()
    return int(count) <= 2


async def test_a_clock_that_starts_in_1970_and_jumps(
    broker: Mosquitto, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, offset_s = time.time, -time.time() + 100

    monkeypatch.setattr(time, "time", lambda: real() + offset_s)
    async with (
        serve(Cloud(OLD)) as server,
        listening(broker.broker, "clock") as heard,
        agent(*flags, *to(broker, "clock", server)),
    ):
        await until(lambda: heard.new() > 3, LIMIT_S)
        assert heard[-1]["unix_s"] < 200
        for jump_s in (0.0, -3600.0):  # synchronised, and then set back by an hour
            offset_s = jump_s
            before, begun_s = heard.new(), real()
            await until(lambda: heard.new() > before + 3, LIMIT_S)  # noqa: B023
            assert begun_s - 1 < heard[-1]["unix_s"] - jump_s < real() + 1
    # Durations know nothing of the jumps, the least of which is an hour.
    assert all(0 <= message["period_s"] < LIMIT_S for message in heard)
    assert heard.total("failed") == 0


async def test_two_devices_with_one_name_both_say_so(
    broker: Mosquitto, flags: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = [word.replace(str(tmp_path / "ledger"), str(tmp_path / "other")) for word in flags]
    address = to(broker, "twin", f"127.0.0.1:{free_port()}")
    async with (
        agent(*flags, *address, "--hardware", "pi-wifi"),
        agent(*other, *address, "--hardware", "mcu-wifi"),
    ):
        # Each names the hardware of the other one.
        for hardware in ("pi-wifi", "mcu-wifi"):
            said = f"another device has this name ({hardware}"
            await until(lambda: said in caplog.text, LIMIT_S)  # noqa: B023


async def test_renewed_certificates_of_the_broker_are_used(
    tmp_path: Path, flags: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with mosquitto(tmp_path / "broker", ("default/pi", "default/listener")) as own:
        secure = ["--broker", f"mqtts://localhost:{own.port}", "--device", "pi"]
        secure += ["--password", own.passwords["default/pi"]]
        secure += ["--broker-ca", str(own.folder / "ca.crt")]
        async with agent(*flags, *secure, "--server", f"127.0.0.1:{free_port()}"):
            await until(lambda: caplog.text.count("pi: connected to") == 1, LIMIT_S)
            await asyncio.to_thread(own.kill)
            provisioning().certificates(own.folder, "localhost")  # another authority
            await asyncio.to_thread(own.start)
            await until(lambda: caplog.text.count("pi: connected to") == 2, LIMIT_S)


async def test_a_renewed_authority_of_the_server_is_trusted(
    broker: Mosquitto, flags: list[str], tmp_path: Path
) -> None:
    ca, port = tmp_path / "trusted.pem", free_port()
    secure = ["--tls", "--ca", str(ca), *to(broker, "renewed", f"localhost:{port}")]
    model = str(tmp_path / "tiny.safetensors")
    served = ("--model", model)

    def renew(name: str) -> tuple[str, ...]:
        authority = Authority(tmp_path / name)
        pair = authority.issue("localhost")
        ca.write_bytes(authority.certificate.read_bytes())
        return ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))

    first = renew("first")
    async with (
        listening(broker.broker, "renewed") as heard,
        agent(*flags, *secure),
    ):
        for files in (first, None):
            words = files or renew("second")
            with ExitStack() as stack:
                await asyncio.to_thread(
                    stack.enter_context, start_server(*served, *words, port=port)
                )
                before = heard.total("answered_cloud")
                await until(lambda: heard.total("answered_cloud") > before + 5, 2 * LIMIT_S)  # noqa: B023
    assert heard.total("failed") == 0


async def test_a_host_name_with_dots_is_no_obstacle(
    broker: Mosquitto, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "pi.kitchen.example.org")
    address = ["--broker", broker.url, "--server", f"127.0.0.1:{free_port()}"]
    async with (
        listening(broker.broker, "pi-kitchen-example-org") as heard,
        agent(*flags, *address),
    ):
        await until(lambda: heard.new() > 0, LIMIT_S)


async def test_systemd_is_told_by_the_program_itself(
    broker: Mosquitto, flags: list[str], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(3 * LIMIT_S)
        config = tmp_path / "agent.toml"
        config.write_text(f'broker = "{broker.url}"\ndevice = "service"\n')
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "device.agent", "--config", str(config), *flags),
            env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "500000", "PATH": ""},
        )
        heard = [await asyncio.to_thread(systemd.recv, 1000) for _ in range(3)]
        process.terminate()
        assert await process.wait() == 0
        while heard[-1] != b"STOPPING=1":
            heard.append(await asyncio.to_thread(systemd.recv, 1000))
    assert heard[0] == b"READY=1"
    assert b"WATCHDOG=1" in heard[1]
    assert b"default/service" in heard[1]
