"""The compose file's services together: healthy, watched, and allowed little."""

from __future__ import annotations

import asyncio
import csv
import json
import urllib.request

import pytest

from tests.containers.stack import DASHBOARD, Stack, query
from tests.support.clouds import until
from tests.support.compose import compose

TARGETS = {"cloud-1:9100", "cloud-2:9100", "proxy:8404", "recorder:9101"}
SERVICES = sorted(compose()["services"])


def need(stack: Stack, service: str) -> None:
    if service not in stack.services:
        pytest.skip(f"no image of {service} can be had here")


def test_everything_is_healthy_within_a_minute(deployed: Stack) -> None:
    assert set(deployed.services) >= set(SERVICES) - {"grafana"}
    assert deployed.up_to_healthy_s <= 60


async def test_prometheus_sees_every_target(deployed: Stack) -> None:
    async def up() -> dict[str, float]:
        return await asyncio.to_thread(query, "up")

    found: dict[str, float] = {}
    for _ in range(60):
        found = await up()
        if set(found) == TARGETS and set(found.values()) == {1.0}:
            break
        await asyncio.sleep(0.5)
    assert found == dict.fromkeys(TARGETS, 1.0)


async def test_the_fleet_is_answered_by_both_servers(deployed: Stack) -> None:
    def answered() -> bool:
        found = query("taper_requests_total > 0")
        return {"cloud-1:9100", "cloud-2:9100"} <= set(found)

    await until(answered, 60)


def test_the_dashboard_answers(deployed: Stack) -> None:
    with urllib.request.urlopen(DASHBOARD, timeout=10) as page:
        assert page.status == 200
        assert "taper" in page.read().decode().lower()


def test_the_client_of_the_device_image_is_answered_through_the_proxy(deployed: Stack) -> None:
    words = ["run", "--rm", "--read-only", "--network", "taper_inside", "taper/device:0.1.0"]
    flags = ["--server", "proxy:50051", "--fraction", "0.3", "--output", "json"]
    report = json.loads(deployed.engine.docker(*words, "device.client", *flags))
    assert report["summary"]["answered"] == 200
    assert report["summary"]["accuracy"] >= 0.95


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_may_do_little(deployed: Stack, service: str) -> None:
    need(deployed, service)
    host = deployed.inspect(service)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    words = ["exec", deployed.container(service), "cat", "/proc/1/status"]
    status = deployed.engine.docker(*words)
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapEff"], 16) == 0


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_can_be_written_on_the_root(deployed: Stack, service: str) -> None:
    need(deployed, service)
    words = ["exec", deployed.container(service), "sh", "-c", "touch /x 2>&1 || echo refused"]
    assert deployed.engine.docker(*words).endswith("refused")


def test_no_password_is_seen_by_who_may_inspect_containers(deployed: Stack) -> None:
    broker = deployed.folder / "broker"
    with (broker / "credentials.csv").open(newline="") as file:
        secrets = {row[1] for row in csv.reader(file) if row}
    secrets |= {path.read_text() for path in (broker / "secrets").iterdir()}
    assert len(secrets) > 50
    for service in deployed.services:
        told = json.dumps(deployed.inspect(service))
        assert not [secret for secret in secrets if secret in told]
