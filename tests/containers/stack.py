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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.containers.engine import Engine, EngineError, lines
from tests.support.compose import compose, variables
from tests.support.processes import ROOT, environment

NETWORK = "taper_inside"
PROXY = "127.0.0.1:50051"
DASHBOARD = "http://127.0.0.1:8080/"
PROMETHEUS = "http://127.0.0.1:9090"
UP_S = 180.0


@dataclass(frozen=True)
class Stack:
    """The running services.

    services        those whose image is there; Grafana's cannot be pulled everywhere
    up_to_healthy_s from the command to the last service's health
    """

    engine: Engine
    words: tuple[str, ...]
    services: tuple[str, ...]
    folder: Path
    up_to_healthy_s: float = 0.0

    def compose(self, *words: str) -> str:
        """The output of Compose with ``words``."""
        return self.engine.run(*self.words, *words)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        (found,) = lines(self.compose("ps", "--quiet", service))
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        """What ``docker inspect`` says of a service's container."""
        found: list[dict[str, Any]] = json.loads(
            self.engine.docker("inspect", self.container(service))
        )
        return found[0]

    def docker(self, command: str, service: str, *flags: str) -> str:
        """``docker COMMAND`` for the container of a service."""
        return self.engine.docker(command, *flags, self.container(service))

    def healthy(self, service: str) -> bool:
        """Whether a service runs, and is healthy where it has a check."""
        state = self.inspect(service)["State"]
        running = state["Running"] and not state["Restarting"] and not state["Paused"]
        return bool(running and state.get("Health", {}).get("Status", "healthy") == "healthy")

    def wait(self, seconds: float = UP_S) -> None:
        """Wait until all services are healthy."""
        end_s = time.monotonic() + seconds
        waiting = list(self.services)
        while waiting := [name for name in waiting if not self.healthy(name)]:
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


def query(expression: str) -> dict[str, float]:
    """What Prometheus says: values by ``instance``, or by ``server`` where there is one."""
    words = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{PROMETHEUS}/api/v1/query?{words}", timeout=5) as answer:
        rows = json.load(answer)["data"]["result"]
    named = [(row["metric"], float(row["value"][1])) for row in rows]
    return {metric.get("server", metric.get("instance", "")): value for metric, value in named}


@contextmanager
def stack(engine: Engine, folder: Path, root: Path = ROOT) -> Iterator[Stack]:
    """All services whose images are there, healthy; removed with networks and volumes.

    The files are those of the checkout ``root``.
    """
    broker, settings = folder / "broker", folder / "environment"
    script = root / "deploy/mosquitto/provision.py"
    words = [sys.executable, str(script), str(broker), "--fleet", "default", "--devices", "50"]
    subprocess.run([*words, "--host", "broker"], env=environment(), check=True, capture_output=True)
    settings.write_text("".join(f"{name}={value}\n" for name, value in variables(broker).items()))
    command = [
        *engine.compose_words(),
        "--env-file",
        str(settings),
        "--file",
        str(root / "deploy/compose.yaml"),
    ]
    services = tuple(name for name in compose()["services"] if not missing(engine, name))
    made = Stack(engine, tuple(command), services, folder)
    try:
        began_s = time.monotonic()
        made.compose("up", "--detach", "--no-build", *services)
        made.wait()
        seconds = time.monotonic() - began_s
        yield Stack(engine, made.words, services, folder, seconds)
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
