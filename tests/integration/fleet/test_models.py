"""A new version of a model under its name, while devices work with the old one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from cloud.fleet.changes import setting
from cloud.fleet.running import recording
from cloud.telemetry.store import Store
from shared.bundles import bundle_path
from shared.model.bundle import make_bundle, read_bundle, write_bundle
from tests.support.broker import mosquitto
from tests.support.clouds import until
from tests.support.fleets import process, wait_for_line
from tests.support.processes import start_server

NAME = "mnist-binary"
SCENARIO = "name: quick\nduration: 1h\nsettings: {rate_per_s: 5, telemetry_s: 0.5}\n"


def renewed(path: Path) -> str:
    """Write another version of the bundle in place; return the version."""
    bundle = read_bundle(path)
    tensors = dict(bundle.tensors)
    name = max(one for one in tensors if one.startswith("cloud."))
    changed = tensors[name].copy()
    changed.flat[0] += 1
    made = make_bundle(bundle.metadata, {**tensors, name: changed})
    write_bundle(made, path)
    return made.metadata.version


async def test_devices_fetch_a_new_version_and_go_on(tmp_path: Path) -> None:
    models, scenario = tmp_path / "models", tmp_path / "quick.yaml"
    models.mkdir()
    shutil.copy(bundle_path(NAME), models)
    scenario.write_text(SCENARIO)
    with (
        mosquitto(tmp_path / "broker") as broker,
        start_server("--models", str(models), "--models-poll-seconds", "0.5") as server,
    ):
        words = ["--devices", "2", "--broker", broker.url, "--server", server.address]
        words += ["--scenario", str(scenario), "--ledger", str(tmp_path / "ledger")]
        with process("device.fleet", *words, log=tmp_path / "log") as fleet:
            wait_for_line(fleet, "2 of 2")
            async with (
                Store(str(tmp_path / "store")) as store,
                recording(broker.broker, "default", store) as recorder,
            ):
                devices = recorder.state.select("all")
                # Every sample goes to the cloud.
                futures = recorder.client.desire(devices, setting({"exit_threshold": 1.0}))
                await asyncio.wait_for(asyncio.gather(*futures.values()), 60)
                version = renewed(models / f"{NAME}.safetensors")

                def answered() -> bool:
                    last = [one.telemetry for one in devices]
                    return all(
                        one is not None
                        and one.model_version == version[:16]
                        and one.answered_cloud > 0
                        and one.failed == 0
                        for one in last
                    )

                await until(answered, 90)
                reports = [one.reported for one in devices]
                assert {one.model_version for one in reports if one} == {version}
