"""The recorder as a service."""

from __future__ import annotations

import signal
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.broker import mosquitto
from tests.support.fleets import process, start, stop, wait_for_line
from tests.support.processes import Server

DEVICES = 3
QUICK = "name: quick\nduration: 1h\nsettings: {rate_per_s: 5, telemetry_s: 0.3}\n"


def metrics(address: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels other than the fleet."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as got:
        page = got.read().decode()
    return {
        (
            one.name,
            *(value for name, value in sorted(one.labels.items()) if name != "fleet"),
        ): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


def test_it_waits_for_the_broker_stores_counts_and_ends_in_order(
    server: Server, tmp_path: Path
) -> None:
    scenario, store = tmp_path / "quick.yaml", tmp_path / "store"
    scenario.write_text(QUICK)
    with mosquitto(tmp_path / "broker") as broker, (tmp_path / "log").open("w") as log:
        broker.kill()
        words = ["record", "--broker", broker.url, "--store", str(store), "--metrics-port", "0"]
        recorder = start("cloud.fleet", words, log.fileno())
        try:
            address = wait_for_line(recorder, "metrics on").split()[-1]
            wait_for_line(recorder, "trying again")
            assert metrics(address)["taper_fleet_broker_connected",] == 0
            broker.start()
            wait_for_line(recorder, "recording fleet default")
            flags = ["--devices", str(DEVICES), "--broker", broker.url, "--server", server.address]
            flags += ["--scenario", str(scenario)]
            with process("device.fleet", *flags, log=tmp_path / "fleet.log") as fleet:
                wait_for_line(fleet, f"{DEVICES} of {DEVICES}")
                for _ in range(1000):
                    found = metrics(address)
                    if found["taper_fleet_stored_total",] > 5 * DEVICES:
                        break
                assert found["taper_fleet_devices", "devices", "online"] == DEVICES
                assert found["taper_fleet_problems", "devices", "silent"] == 0
                assert found["taper_fleet_broker_connected",] == 1
            stop(recorder, signal.SIGTERM)
            assert recorder.returncode == 0
        finally:
            stop(recorder)
    with closing(sqlite3.connect(store)) as database:
        (count,) = database.execute("SELECT count(*) FROM telemetry").fetchone()
        (rolled,) = database.execute(
            "SELECT sum(messages) FROM rollup WHERE device = '' AND width_s = 60"
        ).fetchone()
    assert count == rolled > 5 * DEVICES


def test_a_player_ends_in_order_when_it_is_asked_to(tmp_path: Path) -> None:
    scenario = tmp_path / "quick.yaml"
    scenario.write_text(QUICK)
    with mosquitto(tmp_path / "broker") as broker, (tmp_path / "log").open("w") as log:
        player = start("cloud.fleet", ["play", str(scenario), "--broker", broker.url], log.fileno())
        try:
            wait_for_line(player, "waiting for 1 devices")
        finally:
            stop(player, signal.SIGTERM)
        assert player.returncode == 0, (tmp_path / "log").read_text()
