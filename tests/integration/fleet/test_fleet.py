"""A simulated fleet, a controller, a broker and a cloud server, all real."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud.fleet.player import Player
from cloud.fleet.recorder import Recorder
from cloud.fleet.running import recording
from cloud.telemetry.store import Store
from shared.fleet.broker import BrokerClient
from shared.fleet.messages import DeviceSettings
from shared.fleet.scenario import FleetScenario, Rollout
from tests.support.broker import Mosquitto, mosquitto
from tests.support.clouds import until
from tests.support.fleets import audit, process, shifted_bundle, start, stop, wait_for_line
from tests.support.processes import Server, start_server

DEVICES = 12
QUICK = "name: quick\nduration: 1h\nsettings: {rate_per_s: 5, telemetry_s: 0.3}\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "broker") as running:
        yield running


def flags(broker: Mosquitto, server: Server, folder: Path, ledger: str = "ledger") -> list[str]:
    scenario = folder / "quick.yaml"
    scenario.write_text(QUICK)
    words = ["--devices", str(DEVICES), "--broker", broker.url, "--server", server.address]
    return [*words, "--ledger", str(folder / ledger), "--scenario", str(scenario)]


@asynccontextmanager
async def running_recorder(broker: Mosquitto, folder: Path) -> AsyncIterator[Recorder]:
    async with (
        Store(str(folder / "store")) as store,
        recording(broker.broker, "default", store) as recorder,
    ):
        yield recorder


async def all_online(recorder: Recorder, count: int = DEVICES) -> None:
    devices = recorder.state.devices
    await until(lambda: sum(one.online for one in devices.values()) == count, 60)


async def quiet(recorder: Recorder) -> None:
    """No more telemetry, and no holes in what has come."""
    futures = recorder.client.desire(
        recorder.state.select("all"), lambda _: DeviceSettings(rate_per_s=0.0, telemetry_s=86_400.0)
    )
    await asyncio.wait_for(asyncio.gather(*futures.values()), 30)
    devices = recorder.state.devices
    await until(lambda: all(d.sequences.hole() is None for d in devices.values()), 30)


async def all_gone(recorder: Recorder) -> None:
    """All devices have said farewell, and their last telemetry has come."""
    devices = recorder.state.devices
    await until(lambda: not any(device.online for device in devices.values()), 30)
    await until(lambda: all(d.sequences.hole() is None for d in devices.values()), 30)


async def test_devices_do_what_is_desired_and_say_so(
    broker: Mosquitto, server: Server, tmp_path: Path
) -> None:
    with process("device.fleet", *flags(broker, server, tmp_path), log=tmp_path / "log") as fleet:
        async with running_recorder(broker, tmp_path) as recorder:
            await all_online(recorder)
            devices = recorder.state.select("devices")
            futures = recorder.client.desire(
                devices, lambda _: DeviceSettings("0.3", 0.5, rate_per_s=20, audit_rate=1.0)
            )
            reports = await asyncio.wait_for(asyncio.gather(*futures.values()), 30)
            assert {report.settings.fraction for report in reports} == {"0.3"}
            one = recorder.state.device("device-00001")
            await until(lambda: bool(one.telemetry and one.telemetry.fraction == 0.3), 30)

            # Every answer of the exit head is sent too, and the cloud's counts.
            def all_audited() -> bool:
                sent = one.telemetry
                return bool(sent and sent.audited and not sent.answered_device)

            await until(all_audited, 30)  # the period of the change has answers of before it
            last = one.telemetry
            assert last is not None
            assert last.agreed <= last.audited <= last.answered_cloud
            assert (last.answered_device, last.exits_asked) == (0, last.answered)
            assert 0.3 < last.exit_confidence <= 1
            assert 0 < last.idle_j < last.energy_j

            result = await recorder.client.command("device-00001", "battery", {"level": "0.25"})
            assert result.ok
            await recorder.client.command("device-00001", "measure")
            await until(lambda: bool(one.telemetry and one.telemetry.battery < 0.26), 30)
            unknown = await recorder.client.command("device-00001", "dance")
            assert not unknown.ok
            assert "known are ping" in unknown.error
            silent = await recorder.client.command("device-99999", "ping", timeout_s=0.2)
            assert "no result within" in silent.error

            fleet.kill()  # last wills: nobody says goodbye
            await all_online(recorder, 0)
            death = one.death
            assert death is not None
            assert death.reason == "connection lost"
            assert not recorder.client.counts.refused


@pytest.mark.parametrize("victim", ["broker", "controller", "fleet"])
async def test_a_kill_in_mid_run_loses_and_repeats_nothing(
    victim: str, broker: Mosquitto, server: Server, tmp_path: Path
) -> None:
    words = flags(broker, server, tmp_path)
    with (tmp_path / "log").open("w") as log:
        fleet = start("device.fleet", words, log.fileno())
        try:
            wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
            if victim == "controller":
                kept = ["--broker", broker.url, "--store", str(tmp_path / "store")]
                first = start("cloud.fleet", ["run", "city-day", *kept], log.fileno())
                wait_for_line(first, "city-day")
                stop(first, signal.SIGKILL)
            async with running_recorder(broker, tmp_path) as recorder:
                await all_online(recorder)
                slow = DeviceSettings(rate_per_s=5.0, telemetry_s=0.2)
                recorder.client.desire(recorder.state.select("all"), lambda _: slow)
                kept_before = recorder.counts.stored
                await until(lambda: recorder.counts.stored > kept_before + 5 * DEVICES, 30)
                if victim == "broker":
                    broker.kill()
                    broker.start()
                if victim == "fleet":
                    stop(fleet, signal.SIGKILL)
                    fleet = start("device.fleet", words, log.fileno())
                    wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
                await all_online(recorder)
                kept_before = recorder.counts.stored
                await until(lambda: recorder.counts.stored > kept_before + 5 * DEVICES, 60)
                await quiet(recorder)
                await asyncio.to_thread(stop, fleet)
                await all_gone(recorder)
        finally:
            stop(fleet)
    found = audit(tmp_path / "ledger", tmp_path / "store")
    assert found.numbered > 10 * DEVICES
    assert (found.lost, found.duplicate) == (0, 0)


async def test_hostile_messages_are_counted_and_do_no_harm(
    broker: Mosquitto, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with process("device.fleet", *flags(broker, server, tmp_path), log=tmp_path / "log"):
        async with running_recorder(broker, tmp_path) as recorder:
            await all_online(recorder)
            good = {"device": "device-00001", "session": 1, "unix_s": 1.0}
            root = "taper/v1/default/device-00001"
            hostile: list[tuple[str, object]] = [
                ("telemetry", b"{nonsense"),
                ("telemetry", {**good, "sequence": 1, "colour": "red"}),
                ("telemetry", {**good, "sequence": 4_000_000_000}),
                ("telemetry", {**good, "device": "device-00002", "sequence": 1}),
                ("reported", {**good, "version": 77}),
                ("birth", {**good, "protocol": 9, "next_sequence": 1}),
                ("desired", b"\xff"),
                ("desired", {"version": 3, "settings": {"fraction": "7"}}),
            ]
            # So that a version is known, which 77 is not.
            one = recorder.client.desire(
                recorder.state.select("device-00001"), lambda _: DeviceSettings()
            )
            await asyncio.wait_for(asyncio.gather(*one.values()), 20)
            async with BrokerClient(broker.broker, "x", lambda *_: None, session_s=0) as intruder:
                for kind, value in hostile:
                    data = value if isinstance(value, bytes) else json.dumps(value).encode()
                    await intruder.post(f"{root}/{kind}", data)
                refused = recorder.client.counts.refused
                await until(lambda: sum(refused.values()) >= len(hostile), 20)
                # 10 MB: the broker itself hangs up.
                intruder.post(f"{root}/telemetry", b"x" * 10 * 2**20)
                with pytest.raises(Exception, match="--broker"):
                    await asyncio.wait_for(intruder.lost(), 20)
            assert set(refused) >= {"payload", "colour", "sequence", "device", "version"}
            assert f"{root}/telemetry" in caplog.text
            result = await recorder.client.command("device-00001", "ping")
            assert result.ok
            await all_online(recorder)


async def test_a_worse_model_is_rolled_back_and_an_unknown_one_too(
    broker: Mosquitto, tmp_path: Path
) -> None:
    models = ("--model", "mnist-binary", "--model", str(shifted_bundle(tmp_path)))
    with (
        start_server(*models) as server,
        process("device.fleet", *flags(broker, server, tmp_path), log=tmp_path / "log"),
    ):
        async with running_recorder(broker, tmp_path) as recorder:
            await all_online(recorder)
            said: list[str] = []
            scenario = FleetScenario.model_validate({"name": "none", "duration": "1s"})
            store = str(tmp_path / "store")
            player = Player(recorder.client, scenario, 1.0, None, said.append, store)
            player.set("all", {"rate_per_s": 40.0})
            rules = Rollout.model_validate(
                {"model": "mnist-shifted", "waves": [0.25, 1.0], "watch": "2s", "samples": 50}
            )
            for name, reason in (("mnist-shifted", "accuracy"), ("nowhere", "could not take")):
                said.clear()
                assert not await player.roll_out("all", rules.model_copy(update={"model": name}))
                assert reason in said[0]
                assert "stopped, 3 devices are back" in said[1]
                reports = [device.reported for device in recorder.state.select("all")]
                in_use = [report.settings.model for report in reports if report]
                assert in_use == ["mnist-binary"] * DEVICES
