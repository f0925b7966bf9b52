"""Devices whose ledger, broker or disk is lost: they are visible and stored at once."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from pathlib import Path

import pytest

from cloud.fleet.changes import setting
from cloud.fleet.client import FleetClient
from cloud.fleet.recorder import Recorder
from cloud.fleet.running import recording, running
from cloud.fleet.state import DeviceState
from cloud.telemetry.store import Store
from tests.support.broker import Mosquitto, mosquitto
from tests.support.clouds import until
from tests.support.fleets import process, start, stop, wait_for_line
from tests.support.processes import Server

DEVICES = 3
QUICK = "name: quick\nduration: 1h\nsettings: {rate_per_s: 5, telemetry_s: 0.3}\n"


def online(recorder: Recorder) -> int:
    return sum(one.online for one in recorder.state.devices.values())


async def test_a_second_start_without_ledger_is_seen_and_stored(
    server: Server, tmp_path: Path
) -> None:
    scenario = tmp_path / "quick.yaml"
    scenario.write_text(QUICK)
    with mosquitto(tmp_path / "broker") as broker:
        words = ["--devices", str(DEVICES), "--broker", broker.url, "--server", server.address]
        words += ["--scenario", str(scenario)]
        async with (
            Store(str(tmp_path / "store")) as store,
            recording(broker.broker, "default", store) as recorder,
        ):
            epochs: set[str] = set()
            for _ in range(2):
                before = recorder.counts.stored
                with process("device.fleet", *words, log=tmp_path / "log") as fleet:
                    wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
                    await until(lambda: online(recorder) == DEVICES, 30)
                    await until(lambda: recorder.counts.stored > before + 5 * DEVICES, 30)  # noqa: B023
                await until(lambda: online(recorder) == 0, 30)
                epochs |= {one.last_epoch for one in recorder.state.devices.values()}
            assert len(epochs) == 2 * DEVICES
            assert not recorder.client.counts.refused


async def reported_fraction(recorder: Recorder) -> str | None:
    await until(lambda: online(recorder) == 1, 60)
    (device,) = recorder.state.devices.values()
    await until(lambda: device.reported is not None, 30)
    assert device.reported is not None
    return device.reported.settings.fraction


async def test_a_device_keeps_what_was_desired_when_it_and_the_broker_forget_the_rest(
    server: Server, tmp_path: Path
) -> None:
    words = ["--device", "pi", "--server", server.address, "--ledger", str(tmp_path / "ledger")]
    words += ["--model-folder", str(tmp_path / "models")]

    async def with_agent(broker: Mosquitto, folder: str, change: str | None) -> str | None:
        with (tmp_path / "log").open("a") as log:
            agent = start("device.agent", [*words, "--broker", broker.url], log.fileno())
        try:
            async with (
                Store(str(tmp_path / folder)) as store,
                recording(broker.broker, "default", store) as recorder,
            ):
                fraction = await reported_fraction(recorder)
                if change is not None:
                    devices = recorder.state.select("all")
                    futures = recorder.client.desire(devices, setting({"fraction": change}))
                    await asyncio.wait_for(asyncio.gather(*futures.values()), 30)
                return fraction
        finally:
            stop(agent, signal.SIGKILL)

    with mosquitto(tmp_path / "broker") as broker:
        assert await with_agent(broker, "one", "0.3") == "auto"
    with mosquitto(tmp_path / "another") as broker:  # it has no retained states
        assert await with_agent(broker, "two", "0.7") == "0.3"
        assert await with_agent(broker, "two", None) == "0.7"


def restore(backup: Path, ledger: Path) -> None:
    for path in ledger.parent.glob(f"{ledger.name}*"):
        path.unlink()
    shutil.copy(backup, ledger)


def fraction(device: DeviceState) -> str | None:
    return None if device.reported is None else device.reported.settings.fraction


async def test_a_restored_ledger_begins_a_new_epoch_and_its_telemetry_is_stored(
    server: Server, tmp_path: Path
) -> None:
    ledger, backup = tmp_path / "ledger", tmp_path / "backup"
    scenario = tmp_path / "quick.yaml"
    scenario.write_text(QUICK)
    words = ["--devices", "1", "--server", server.address, "--scenario", str(scenario)]
    words += ["--ledger", str(ledger)]
    with mosquitto(tmp_path / "broker") as broker:
        async with (
            Store(str(tmp_path / "store")) as store,
            recording(broker.broker, "default", store) as recorder,
        ):
            for run in range(3):
                before = recorder.counts.stored
                with process("device.fleet", *words, "--broker", broker.url) as fleet:
                    wait_for_line(fleet, "1 of 1")
                    await until(lambda: recorder.counts.stored > before + 8, 30)  # noqa: B023
                if run == 0:
                    shutil.copy(ledger, backup)
                elif run == 1:
                    restore(backup, ledger)
            (device,) = recorder.state.devices.values()
            assert len(device.epochs) == 2
            assert device.last_epoch != next(iter(device.epochs))


async def test_a_broker_that_lost_what_is_desired_gets_it_back_from_the_store(
    server: Server, tmp_path: Path
) -> None:
    scenario = tmp_path / "quick.yaml"
    scenario.write_text(QUICK)
    words = ["--devices", "1", "--server", server.address, "--scenario", str(scenario)]
    seen = []
    for folder, change in (("one", "0.3"), ("two", None)):
        with mosquitto(tmp_path / folder) as broker:
            flags = [*words, "--broker", broker.url]
            with process("device.fleet", *flags, log=tmp_path / "log") as fleet:
                wait_for_line(fleet, "1 of 1")
                async with (
                    Store(str(tmp_path / "store")) as store,
                    recording(broker.broker, "default", store) as recorder,
                ):
                    (device,) = recorder.state.devices.values()
                    if change is not None:
                        async with running(FleetClient(broker.broker, "default")) as operator:
                            devices = operator.state.select("all")
                            futures = operator.desire(devices, setting({"fraction": change}))
                            await asyncio.wait_for(asyncio.gather(*futures.values()), 30)
                        await until(lambda: device.desired.version == 1, 10)  # noqa: B023
                        await asyncio.sleep(0.5)  # until it is stored

                    await until(lambda: fraction(device) == "0.3", 30)  # noqa: B023
                    seen.append(fraction(device))
    assert seen == ["0.3", "0.3"]


async def test_a_full_disk_stops_no_device(server: Server, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if not shutil.which("mount") or await _run(
        "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)
    ):
        pytest.skip("cannot mount a small file system here")
    try:
        scenario = tmp_path / "quick.yaml"
        scenario.write_text(QUICK)
        with mosquitto(tmp_path / "broker") as broker:
            words = ["--devices", str(DEVICES), "--broker", broker.url, "--server", server.address]
            words += ["--scenario", str(scenario), "--ledger", str(small / "ledger")]
            with process("device.fleet", *words, log=tmp_path / "log") as fleet:
                wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
                async with (
                    Store(str(tmp_path / "store")) as store,
                    recording(broker.broker, "default", store) as recorder,
                ):
                    await until(lambda: recorder.counts.stored > DEVICES, 30)
                    fill(small / "fill")
                    await until(
                        lambda: "telemetry waits in memory" in (tmp_path / "log").read_text(), 60
                    )
                    assert fleet.poll() is None
                    assert online(recorder) == DEVICES
                    (small / "fill").unlink()
                    before = recorder.counts.stored
                    await until(lambda: recorder.counts.stored > before + DEVICES, 60)
                    devices = recorder.state.devices.values()
                    assert not any(one.telemetry and one.telemetry.dropped for one in devices)
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        await _run("umount", str(small))


def fill(path: Path) -> None:
    """Write to a file until its disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


async def _run(*words: str) -> int:
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()
