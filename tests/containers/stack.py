"""``deploy/compose.yaml``, unmodified, in containers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.containers.engine import Engine, EngineError, lines
from tests.support.compose import compose, variables
from tests.support.processes import ROOT, environment

NETWORK = "taper_inside"
LABELS = ("project=taper", "oneoff=False")  # of the services' containers
PROXY = "127.0.0.1:50051"
DASHBOARD = "http://127.0.0.1:8080/"
PROMETHEUS = "http://127.0.0.1:9090"
UP_S = 300.0


@dataclass(frozen=True)
class Stack:
    """The running services.

    compose_words   Compose with the file of variables
    root            the checkout whose files it runs
    services        those whose image is there; Grafana's cannot be pulled everywhere
    up_to_healthy_s from the command to the last service's health
    """

    engine: Engine
    compose_words: tuple[str, ...]
    root: Path
    services: tuple[str, ...]
    folder: Path
    up_to_healthy_s: float = 0.0

    def compose(self, *words: str) -> str:
        """The output of Compose with ``words``."""
        file = str(self.root / "deploy/compose.yaml")
        return self.engine.run(*self.compose_words, "--file", file, *words)

    def of(self, root: Path) -> Stack:
        """The same services, by the files of another checkout."""
        return replace(self, root=root)

    def inspect_all(self) -> dict[str, dict[str, Any]]:
        """What ``docker inspect`` says of each service's container; asking Compose takes longer."""
        words = [f"--filter=label=com.docker.compose.{label}" for label in LABELS]
        found = lines(self.engine.docker("ps", "--all", "--quiet", *words))
        told = json.loads(self.engine.docker("inspect", *found)) if found else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in told}

    def inspect(self, service: str) -> dict[str, Any]:
        """What ``docker inspect`` says of a service's container."""
        return self.inspect_all()[service]

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return str(self.inspect(service)["Id"])

    def docker(self, command: str, service: str, *flags: str) -> str:
        """``docker COMMAND`` for the container of a service."""
        return self.engine.docker(command, *flags, self.container(service))

    def wait(self, seconds: float = UP_S) -> None:
        """Wait until all services are healthy."""
        end_s = time.monotonic() + seconds
        while True:
            told = self.inspect_all()
            waiting = [name for name in self.services if not healthy(told.get(name))]
            if not waiting:
                return
            if time.monotonic() > end_s:
                logs = self.compose("logs", "--tail", "20", *waiting)
                raise EngineError(f"not healthy after {seconds:.0f} s: {waiting}\n{logs}")
            time.sleep(0.3)

    def address(self, service: str) -> str:
        """A container's address in the network of the file; empty while it is in none."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks.get(NETWORK, {}).get("IPAddress", ""))

    def leave(self, service: str) -> None:
        """Take a container off the network."""
        self.engine.docker("network", "disconnect", NETWORK, self.container(service))

    def join(self, service: str) -> None:
        """Put it back, under its name."""
        words = ["network", "connect", "--alias", service, NETWORK, self.container(service)]
        self.engine.docker(*words)


def healthy(told: dict[str, Any] | None) -> bool:
    """Whether an inspected container runs, and is healthy where it has a check."""
    if told is None:
        return False
    state = told["State"]
    running = state["Running"] and not state["Restarting"] and not state["Paused"]
    return bool(running and state.get("Health", {}).get("Status", "healthy") == "healthy")


def query(expression: str) -> dict[str, float]:
    """What Prometheus says: values by ``instance``, or by ``server`` where there is one."""
    words = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{PROMETHEUS}/api/v1/query?{words}", timeout=5) as answer:
        rows = json.load(answer)["data"]["result"]
    named = [(row["metric"], float(row["value"][1])) for row in rows]
    return {metric.get("server", metric.get("instance", "")): value for metric, value in named}


def provision(folder: Path, root: Path) -> None:
    """Make the broker's folder with the script of the checkout ``root``, or add to it."""
    script = root / "deploy/mosquitto/provision.py"
    words = [sys.executable, str(script), str(folder), "--fleet", "default", "--devices", "50"]
    subprocess.run([*words, "--host", "broker"], env=environment(), check=True, capture_output=True)


def _up(made: Stack) -> None:
    """``compose up``, again while a service that others need is late, on a slow machine."""
    end_s = time.monotonic() + UP_S
    while True:
        try:
            made.compose("up", "--detach", "--no-build", *made.services)
        except EngineError:
            if time.monotonic() > end_s:
                raise
            time.sleep(2)
        else:
            return


@contextmanager
def stack(engine: Engine, folder: Path, root: Path = ROOT) -> Iterator[Stack]:
    """All services whose images are there, healthy; removed with networks and volumes.

    The files are those of the checkout ``root``.
    """
    broker, settings = folder / "broker", folder / "environment"
    provision(broker, root)
    settings.write_text("".join(f"{name}={value}\n" for name, value in variables(broker).items()))
    command = (*engine.compose_words(), "--env-file", str(settings))
    services = tuple(name for name in compose()["services"] if not missing(engine, name))
    made = Stack(engine, command, root, services, folder)
    try:
        began_s = time.monotonic()
        _up(made)
        made.wait()
        yield replace(made, up_to_healthy_s=time.monotonic() - began_s)
    finally:
        with suppress(EngineError):
            (folder / "services.log").write_text(made.compose("logs", "--no-color"))
        made.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")


def missing(engine: Engine, service: str) -> bool:
    """Whether a service's image is neither there nor to be had."""
    image = compose()["services"][service]["image"]
    for command in (("image", "inspect"), ("pull", "--quiet")):
        with suppress(EngineError):
            engine.docker(*command, image, seconds=300)
            return False
    return True
