"""The containers without a container engine: what is written is what is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud.fleet.metrics import families
from cloud.fleet.recorder import Recorder
from cloud.observability.metrics import Metrics, exposition
from cloud.telemetry.records import Appended, Ranges, Received
from shared.fleet.broker import parse_broker
from shared.fleet.messages import Desired
from tests.support.broker import need_mosquitto
from tests.support.compose import FILE, Stage, as_root, compose, variables
from tests.support.debian import need
from tests.support.dispatchers import nothing_counted
from tests.support.processes import ROOT, environment

pytestmark = pytest.mark.alone

DEPLOY = ROOT / "deploy"
ORDER = (
    "broker", "cloud-1", "cloud-2", "proxy", "recorder", "dashboard", "fleet", "player",
    "prometheus",
)  # fmt: skip
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OURS = ("cloud-1", "cloud-2", "recorder", "dashboard", "fleet")


@pytest.mark.parametrize("path", [FILE, DEPLOY / "ray/compose.yaml"], ids=["whole", "ray"])
def test_compose_file_is_valid(path: Path) -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*words, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["cloud", "device"])
def test_dockerfiles_are_clean(name: str) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    path = DEPLOY / "docker" / f"{name}.Dockerfile"
    done = subprocess.run([linter, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text()
    assert "--require-hashes" in text
    assert "build_wheel(" in text  # not pip, which would fetch build tools that nothing locks
    assert "requirements/build.txt" in text
    assert "TAPER_REQUIRE_NATIVE=1" in text
    assert "syntax=" not in text  # a front end that builders would fetch
    images = text.split("FROM runtime AS ")[1:]
    assert len(images) == {"device": 2, "cloud": 3}[name]
    assert all(re.search(r"^USER \d+:\d+$", image, re.M) for image in images)
    assert text.count("HEALTHCHECK") >= 1
    assert "--require-hashes" in (DEPLOY / "docker/install-packages").read_text()


def test_the_compose_file_is_for_compose_1_29_as_well() -> None:
    assert "name" not in compose()
    services = compose()["services"]
    built = {one["image"]: one["build"]["target"] for one in services.values() if "build" in one}
    assert built == {f"taper/{name}:{VERSION}": name for name in ("agent", "cloud", "operations")}


def test_an_upgrade_changes_every_service_and_devices_last() -> None:
    (words,) = re.findall(r"\|\| set -- (.+)$", (DEPLOY / "upgrade").read_text(), re.M)
    order = words.split()
    assert sorted(order) == sorted(compose()["services"])
    assert (order[0], order[-1]) == ("broker", "fleet")


def test_a_broker_that_root_provisions_is_another_users(tmp_path: Path) -> None:
    need_mosquitto()
    words = [sys.executable, DEPLOY / "mosquitto/provision.py", tmp_path / "broker"]
    subprocess.run([*map(str, words), "--devices", "1"], check=True, capture_output=True)
    filled = variables(tmp_path / "broker")
    assert filled["TAPER_UID"] == str(os.geteuid() or 10003)
    assert filled["COMPOSE_PROJECT_NAME"] == "taper"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "credentials.csv").write_text("controller,word\n")
    words = [str(DEPLOY / "broker-environment"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "belongs to root" in done.stderr


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_containers_may_do_little(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert not service["image"].endswith(":latest")
    assert ":" in service["image"]
    assert name not in OURS or "healthcheck" in service
    # The entry point of this image is the program; the others' run the command that they are given.
    assert name != "prometheus" or service["entrypoint"] == []


def test_metrics_in_rules_and_panels_are_those_of_server_and_recorder() -> None:
    metrics = Metrics()
    metrics.request("OK", 1, 1)
    counted = nothing_counted() | {"refusals": {"deadline": 1}}
    gauges = dict.fromkeys(
        ("queue_requests", "queue_samples", "streams", "cloud_fraction", "load", "workers"), 1.0
    )
    metrics.counters["worker_restarts"] = 0
    page = exposition(metrics.snapshot(gauges, [], counted)).decode()
    known = {sample.name for one in text_string_to_metric_families(page) for sample in one.samples}
    known |= {"taper_samples_total", "taper_model_info"}  # need a model; see test_server_operations
    for family in families(Recorder(parse_broker("mqtt://localhost"), "city", Unused()), 0.0):
        known |= {family.name, f"{family.name}_total"}
    known.add("taper_fleet_")  # of a pattern of names
    used = set()
    boards = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
    for path in (DEPLOY / "prometheus/alerts.yml", *boards):
        used |= set(re.findall(r"taper_\w+", path.read_text()))
    assert len(used) > 10
    assert used <= known


class Unused:
    """A store that is never asked."""

    async def append(self, batch: Sequence[Received]) -> Appended:
        raise AssertionError

    async def desired(self, fleet: str) -> Mapping[str, Desired]:
        raise AssertionError(fleet)

    async def newest_s(self, fleet: str) -> float:
        raise AssertionError(fleet)

    async def sequences(self, fleet: str) -> Mapping[tuple[str, str], Ranges]:
        raise AssertionError

    async def retire(self, fleet: str, device: str) -> None:
        raise AssertionError


def test_prometheus_takes_the_rules_and_they_fire() -> None:
    need("metrics", "promtool")
    for words in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            ["promtool", *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_reads_where_prometheus_is() -> None:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/taper.json").read_text())
    source = (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert uids == {"prometheus"}
    assert "uid: prometheus" in source


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    need_mosquitto()
    need("proxy", "haproxy")
    need("metrics", "prometheus")
    folder = tmp_path / "broker"
    address = Stage(tmp_path, {}).address("broker")
    words = [sys.executable, DEPLOY / "mosquitto/provision.py", folder, "--fleet", "default"]
    made = [*words, "--devices", "50", "--host", address]
    subprocess.run([str(word) for word in made], env=environment(), check=True, capture_output=True)
    as_root(folder / "mosquitto.conf")
    return Stage(tmp_path, variables(folder))


@pytest.mark.timeout(240)
def test_every_container_runs_and_is_healthy(stage: Stage) -> None:
    """All services but Grafana, in the order of their dependencies, together."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in ORDER:
            for other in stage.services[name].get("depends_on", {}):
                assert other in running
            running[name] = stage.start(name)
            if "healthcheck" in stage.services[name]:
                stage.wait(name, running[name])
        expect_targets(stage)
        for name, process in running.items():
            assert process.poll() is None, (stage.folder / f"{name}.log").read_text()[-2000:]
    finally:
        for process in reversed(running.values()):
            process.terminate()
        for process in running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def expect_targets(stage: Stage) -> None:
    """Samples of the fleet went through the proxy to both servers, and Prometheus sees all."""
    end_s = time.monotonic() + 60
    while True:
        answered = []
        for name in ("cloud-1", "cloud-2"):
            with urllib.request.urlopen(f"http://{stage.address(name)}:9100/metrics") as page:
                text = page.read().decode()
            families = text_string_to_metric_families(text)
            found = {s.name: s.value for one in families for s in one.samples}
            answered.append(found.get("taper_requests_total", 0.0))
        up = scraped(stage)
        if min(answered) > 0 and up == {"up"}:
            return
        assert time.monotonic() < end_s, (answered, up)
        time.sleep(0.2)


def scraped(stage: Stage) -> set[str]:
    """What Prometheus says of its targets."""
    page = f"http://{stage.address('prometheus')}:9090/api/v1/targets"
    try:
        with urllib.request.urlopen(page, timeout=5) as answer:
            targets = json.load(answer)["data"]["activeTargets"]
    except OSError:
        return set()
    return {target["health"] for target in targets}
