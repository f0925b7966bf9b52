"""The fleet's commands as programs, on the shipped broker settings."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud.telemetry.database import reading
from cloud.telemetry.trail import recent
from tests.support.broker import DEPLOY, Mosquitto, mosquitto, need_mosquitto
from tests.support.fleets import process, start, stop, wait_for_line
from tests.support.processes import ROOT, Server, environment

DEVICES = 3
QUICK = "name: quick\nduration: 1h\nsettings: {rate_per_s: 5, telemetry_s: 0.3}\n"
FLEET = tuple(f"city/device-{number:05d}" for number in range(1, DEVICES + 1))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    need_mosquitto()
    folder = tmp_path_factory.mktemp("broker")
    people = [sys.executable, str(DEPLOY / "provision.py"), str(folder), "--fleet", "city"]
    subprocess.run([*people, "--operator", "alice"], check=True, capture_output=True)
    with mosquitto(folder, FLEET) as running:
        yield running


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


@contextmanager
def fleet(broker: Mosquitto, server: Server, folder: Path, *more: str) -> Iterator[None]:
    """Simulated devices that are connected."""
    scenario = folder / "quick.yaml"
    scenario.write_text(QUICK)
    words = ["--devices", str(DEVICES), "--server", server.address, "--scenario", str(scenario)]
    ledger = str(folder / "ledger")
    log = folder / "log"
    with process("device.fleet", *words, "--ledger", ledger, *more, log=log) as running:
        wait_for_line(running, f"{DEVICES} of {DEVICES}")
        yield
    assert "nanobind" not in log.read_text()  # nor any other word about what an exit leaves


async def command(*words: str, password: str | None = None) -> tuple[int, str]:
    """Status and output of ``python -m cloud.fleet``."""
    given = dict(environment())
    if password is not None:
        given["TAPER_BROKER_PASSWORD"] = password
    return await program(given, sys.executable, "-m", "cloud.fleet", *words)


async def program(given: Mapping[str, str], *words: str) -> tuple[int, str]:
    """Status and output of a program."""
    running = await asyncio.create_subprocess_exec(
        *words,
        cwd=ROOT,
        env=given,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with ended(running):
        output, _ = await asyncio.wait_for(running.communicate(), 60)
    assert running.returncode is not None
    return running.returncode, output.decode()


@asynccontextmanager
async def ended(running: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Whatever happens in the block, the program does not outlive it."""
    try:
        yield
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def test_a_secured_fleet_is_watched_and_set_at_the_same_time(
    secured: Mosquitto, server: Server, tmp_path: Path
) -> None:
    authority = str(secured.folder / "ca.crt")
    url = f"mqtts://localhost:{secured.port}"
    where = ["--broker", url, "--ca", authority, "--fleet", "city"]
    credentials = str(secured.folder / "credentials.csv")
    words = secured.passwords
    with fleet(secured, server, tmp_path, *where, "--credentials", credentials):
        (seen, watched), (changed, told), (also, other) = await asyncio.gather(
            command("watch", *where, "--seconds", "4", password=words["watcher"]),
            command("set", "all", "fraction=0.3", *where, password=words["operator"]),
            command(
                "set", "all", "exit_threshold=0.7", *where, "--user", "alice",
                password=words["alice"],
            ),
        )  # fmt: skip
        assert (seen, changed, also) == (0, 0, 0), (watched, told, other)
        assert f"{DEVICES} of {DEVICES} online" in watched
        assert all(name.partition("/")[2] in watched for name in FLEET)
        assert "connecting again" not in watched + told + other
        for text in (told, other):
            assert f"{DEVICES} of {DEVICES} devices reported" in text
        # The watcher only looks.
        status, text = await command(
            "set", "all", "fraction=0.5", *where, "--user", "watcher", "--wait", "2",
            password=words["watcher"],
        )  # fmt: skip
        assert status != 0
        assert "0 of 3 devices reported" in text
        status, text = await command("watch", *where, "--seconds", "1", password="wrong")
        assert (status, text.count("\n")) == (3, 1)
        assert "refuses the credentials" in text


async def test_of_two_with_one_name_the_earlier_says_so_and_ends(
    secured: Mosquitto, tmp_path: Path
) -> None:
    authority = str(secured.folder / "ca.crt")
    where = ["--broker", f"mqtts://localhost:{secured.port}", "--ca", authority, "--fleet", "city"]
    given = {**environment(), "TAPER_BROKER_PASSWORD": secured.passwords["watcher"]}
    words = [sys.executable, "-m", "cloud.fleet", "watch", *where]
    first = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, env=given,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with ended(first):
        assert first.stdout is not None
        await asyncio.wait_for(first.stdout.readuntil(b"fleet city"), 60)
        second = asyncio.create_task(program(given, *words, "--seconds", "8"))
        _, complaint = await asyncio.wait_for(first.communicate(), 30)
    assert first.returncode == 3
    # Newer brokers say it, older ones only hang up.
    said = r"error: .*(another client has connected as watcher|is there another client with this)"
    assert re.search(said, complaint.decode())
    assert (await second)[0] == 0


async def test_the_documented_examples_with_mosquitto_clients_work(
    loopback: Mosquitto, server: Server, tmp_path: Path
) -> None:
    """Those of docs/fleet.md, with the port of this broker."""
    text = (ROOT / "docs/fleet.md").read_text()
    examples = re.findall(r"^(mosquitto_(?:sub|pub) .*)$", text, re.MULTILINE)
    assert len(examples) >= 5
    at = f"-p {loopback.port}"

    async def shell(number: int, *more: str) -> str:
        line = examples[number].removesuffix(" &").replace(" -V 5", f" -V 5 {at}", 1)
        status, output = await program(environment(), "sh", "-c", f"{line} {' '.join(more)}")
        assert status == 0, output
        return output

    with fleet(loopback, server, tmp_path, "--broker", loopback.url):
        topic, _, payload = (await shell(0, "-C 1 -W 20")).partition(" ")
        assert re.fullmatch(r"taper/v1/default/device-0000\d/telemetry", topic)
        assert json.loads(payload)["sequence"] >= 1
        reports = asyncio.create_task(shell(2, "-W 20"))
        await shell(1)
        # The retained report may be the one from before the desired state.
        for _ in range(20):
            if '"version":9' in (report := await reports):
                break
            reports = asyncio.create_task(shell(2, "-W 20"))
        assert '"fraction":"0.5"' in report
        waiting = asyncio.create_task(shell(3, "-C 1 -W 20"))
        for _ in range(20):  # a result is not retained: ask until the subscription is there
            await shell(4)
            done, _ = await asyncio.wait({waiting}, timeout=0.5)
            if done:
                break
        assert '"ok":true' in await waiting


async def test_an_agent_goes_on_with_its_ledger_and_says_goodbye(
    loopback: Mosquitto, server: Server, tmp_path: Path
) -> None:
    words = ["--device", "pi", "--group", "north", "--broker", loopback.url]
    words += ["--server", server.address, "--ledger", str(tmp_path / "ledger")]
    words += ["--model-folder", str(tmp_path / "models")]
    where = ["--broker", loopback.url]
    with (tmp_path / "log").open("w") as log:
        for fraction in ("0.3", "0.7"):  # the second time with what it knows from the first
            running = start("device.agent", words, log.fileno())
            try:
                await born(loopback)
                status, text = await command(
                    "set", "north", f"fraction={fraction}", "telemetry_s=0.2", *where
                )
                assert (status, "1 of 1 devices reported" in text) == (0, True), text
                sent = await heard(loopback, "telemetry")
                assert sent["period_s"] > 0
            finally:
                stop(running, signal.SIGTERM)
            assert running.returncode == 0
            death = await heard(loopback, "death")
            assert death["session"] == sent["session"]
            assert "lost" not in death.get("reason", "")
        assert sent["session"] >= 2
        assert sent["sequence"] > 2
    status, text = await command("set", "nobody", "fraction=1", *where)
    assert (status, "groups are north" in text) == (2, True)


async def heard(broker: Mosquitto, kind: str) -> dict[str, Any]:
    """The next or the retained message of the device ``pi``."""
    topic = f"taper/v1/default/pi/{kind}"
    words = ["mosquitto_sub", "-V", "5", "-p", str(broker.port), "-C", "1", "-W", "30", "-t", topic]
    status, output = await program(environment(), *words)
    assert status == 0, output
    found: dict[str, Any] = json.loads(output)
    return found


async def born(broker: Mosquitto) -> None:
    await heard(broker, "birth")


async def test_a_scenario_is_played_stored_exported_and_reported(
    loopback: Mosquitto, server: Server, tmp_path: Path
) -> None:
    scenario = tmp_path / "short.yaml"
    scenario.write_text(
        "name: short\nduration: 4m\nsettings: {rate_per_s: 1, telemetry_s: 20, fraction: auto}\n"
        "groups: [{name: all-of-them, hardware: mcu-wifi, battery: [0.4, 0.6]}]\n"
        "events:\n"
        "  - {at: 1m, for: all, set: {fraction: '0.3'}}\n"
        "  - {at: 2m, for: device-00002, battery: 0.1}\n"
    )
    store = ["--store", str(tmp_path / "store")]
    speed = ["--speed", "60"]
    more = ["--broker", loopback.url, *speed]
    with fleet(loopback, server, tmp_path, *more):
        status, text = await command("run", str(scenario), *more, *store, "--devices", str(DEVICES))
    assert status == 0, text
    assert "0.02 h: all: set {'fraction': '0.3'}" in text
    assert "0.03 h: device-00002: battery 10%" in text
    assert "refused 0" in text
    table, page = tmp_path / "out.csv", tmp_path / "out.html"
    status, text = await command("export", *store, "-o", str(table))
    assert status == 0, text
    rows = int(text.rstrip().rsplit(": ", 1)[1].split()[0])
    assert rows >= 5 * DEVICES
    assert len(table.read_text().splitlines()) == rows + 1
    status, text = await command("report", *store, "-o", str(page))
    assert status == 0, text
    assert f"{rows} messages of\n3 devices" in page.read_text()


async def test_devices_are_shown_in_80_columns_and_retired(
    loopback: Mosquitto, server: Server, tmp_path: Path
) -> None:
    at = ["--broker", loopback.url]
    store = str(tmp_path / "store")
    trail = ["--store", store, "--who", "alice"]
    with fleet(loopback, server, tmp_path, *at):
        assert (await command("set", "device-00001", "fraction=0.3", *at, *trail))[0] == 0
        status, text = await command("get", "device-00001", *at)
        assert status == 0
        lines = text.splitlines()
        assert lines[0] == "device-00001 (online): desired version 1: fraction=0.3"
        assert lines[1].startswith("  reported version 1: fraction=0.3 ")
        narrow = {**environment(), "COLUMNS": "80"}
        words = ("-m", "cloud.fleet", "watch", "--seconds", "3", *at)
        status, text = await program(narrow, sys.executable, *words)
        assert status == 0
        shown = text.splitlines()
        assert max(map(len, shown)) <= 80
        headings = next(line.split() for line in shown if line.strip().startswith("device"))
        assert headings == [
            "device",
            "online",
            "battery",
            "fraction",
            "cloud",
            "own",
            "ms",
            "error",
        ]
        rows = [line.split() for line in shown if line.strip().startswith("device-")]
        assert sorted(row[:2] for row in rows) == [[f"device-0000{n}", "yes"] for n in (1, 2, 3)]
        refused = await command("retire", "device-00001", *at)
        assert refused[0] == 2
        assert "'device-00001' is connected; stop it first" in refused[1]
    gone = await command("retire", "device-00001", *at, "--store", store)
    assert gone == (0, "device-00001: retired\n")
    with reading(store) as connection:
        noted = [(one.who, one.target, one.what, one.result)
                 for one in recent(connection, "default", 10)]  # fmt: skip
    assert noted == [
        (getpass.getuser(), "device-00001", "retire", "retired"),
        ("alice", "device-00001", "fraction=0.3", "1 of 1 reported"),
    ]
    status, text = await command("get", "device-00001", *at)
    assert status == 2
    assert "is no device and no group of fleet default (2 devices" in text
