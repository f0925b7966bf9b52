"""The store goes away while a fleet sends: a real PostgreSQL, broker, server and devices."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloud.fleet.running import recording
from cloud.telemetry import queries
from cloud.telemetry.database import reading
from cloud.telemetry.store import Store
from shared.fleet.messages import DeviceSettings
from tests.support.broker import mosquitto
from tests.support.clouds import until
from tests.support.fleets import process, wait_for_line
from tests.support.postgres import Postgres
from tests.support.processes import Server

DEVICES = 3
SCENARIO = "name: quick\nduration: 1h\nsettings: {rate_per_s: 5, telemetry_s: 0.2}\n"


async def test_nothing_is_lost_or_stored_twice_when_the_database_restarts(
    postgres_server: Postgres, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    postgres_server.clear()
    scenario = tmp_path / "quick.yaml"
    scenario.write_text(SCENARIO)
    with mosquitto(tmp_path / "broker") as broker:
        words = ["--devices", str(DEVICES), "--broker", broker.url, "--server", server.address]
        words += ["--scenario", str(scenario), "--ledger", str(tmp_path / "ledger")]
        with process("device.fleet", *words, log=tmp_path / "log") as fleet:
            wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
            async with (
                Store(postgres_server.url) as store,
                recording(broker.broker, "default", store) as recorder,
            ):
                counts, devices = recorder.counts, recorder.state.devices
                await until(lambda: counts.stored > 3 * DEVICES, 30)
                postgres_server.stop()
                await until(lambda: "trying again" in caplog.text, 30)
                before = counts.stored
                await asyncio.to_thread(postgres_server.start)
                await until(lambda: counts.stored > before + 5 * DEVICES, 30)
                futures = recorder.client.desire(
                    devices.values(), lambda _: DeviceSettings(telemetry_s=9999.0)
                )
                await asyncio.wait_for(asyncio.gather(*futures.values()), 30)
                await until(lambda: all(d.sequences.hole() is None for d in devices.values()), 30)
                held = {
                    (name, d.last_epoch): ((1, d.sequences.through),) for name, d in devices.items()
                }
                await until(lambda: counts.stored >= sum(r[0][1] for r in held.values()), 30)
    with reading(postgres_server.url) as connection:
        assert queries.stored_sequences(connection, "default") == held
        whole = queries.totals(connection, "default")
        assert whole is not None
        assert whole.messages == sum(ranges[0][1] for ranges in held.values())
