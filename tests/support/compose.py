"""The services of ``deploy/compose.yaml`` as plain processes: no container engine is needed.

Mechanically: a service's name becomes an address of its own on the loopback network, and so does
"any address" in its own words; variables are filled in; folders of containers become real ones.
Ports, flags and files stay as they are written.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import ROOT, environment

FILE = ROOT / "deploy" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)\}")


def compose() -> dict[str, Any]:
    """The file, anchors and merges resolved."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


@dataclass
class Stage:
    """Where services run: their addresses, folders and variables."""

    folder: Path
    variables: dict[str, str]
    services: dict[str, Any] = field(default_factory=lambda: compose()["services"])

    def address(self, name: str) -> str:
        """The loopback address of a service."""
        return f"127.0.9.{1 + sorted(self.services).index(name)}"

    def words(self, name: str, words: list[str]) -> list[str]:
        """A command of a service as it runs here."""
        made = [self.fill(name, word) for word in words]
        return [sys.executable, *made[1:]] if made[0] == "python" else made

    def fill(self, name: str, text: str) -> str:
        """One word of a service's command, with addresses and folders of this machine."""
        text = VARIABLE.sub(lambda found: self.variables[found[1]], str(text)).replace("$$", "$")
        for outside, inside in self.mounts(name):
            if outside != inside:
                text = re.sub(rf"(?<![\w.]){re.escape(inside)}(?=/|$)", outside, text)
        return self.addressed(name, text)

    def addressed(self, name: str, text: str) -> str:
        """``text`` with addresses for the names of services, and for "here" and "anywhere"."""
        text = text.replace("0.0.0.0", self.address(name)).replace("127.0.0.1", self.address(name))
        for other in sorted(self.services, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){other}(?=:\d)", self.address(other), text)
        return text

    def copy(self, name: str, folder: Path) -> Path:
        """A folder of settings as a service sees it here."""
        made = self.folder / f"{name}-settings"
        if not made.exists():
            made.mkdir()
            for path in folder.iterdir():
                if path.is_file():
                    (made / path.name).write_text(self.addressed(name, path.read_text()))
        return made

    def mounts(self, name: str) -> list[tuple[str, str]]:
        """Pairs of a real folder or file, and where the container sees it."""
        pairs = []
        for volume in self.services[name].get("volumes", []):
            volume = VARIABLE.sub(lambda found: self.variables[found[1]], volume)
            outside, inside = volume.split(":")[:2]
            if outside.startswith("./"):
                outside = str(self.copy(name, FILE.parent / outside[2:]))
            elif not outside.startswith("/"):
                outside = str(self.folder / outside)
                Path(outside).mkdir(exist_ok=True)
            pairs.append((outside, inside))
        return pairs

    def environment(self, name: str) -> dict[str, str]:
        """The variables of a service."""
        own = self.services[name].get("environment", {})
        return {**environment(), **{key: self.fill(name, value) for key, value in own.items()}}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Run a service's command."""
        words = self.words(name, self.services[name]["command"])
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                words, cwd=ROOT, env=self.environment(name), stdout=log, stderr=log
            )

    def healthy(self, name: str) -> bool:
        """Whether a service's health check passes."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            self.words(name, words), cwd=ROOT, env=self.environment(name), capture_output=True
        )
        return done.returncode == 0

    def wait(self, name: str, running: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
        """Wait until a service is healthy; fails with its log."""
        end_s = time.monotonic() + seconds
        while not self.healthy(name):
            if running.poll() is not None or time.monotonic() > end_s:
                raise AssertionError(f"{name}: {(self.folder / f'{name}.log').read_text()[-2000:]}")
            time.sleep(0.2)


def variables(folder: Path) -> dict[str, str]:
    """What ``deploy/broker-environment`` prints for a folder of ``provision.py``."""
    script = ROOT / "deploy" / "broker-environment"
    done = subprocess.run([script, folder], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def as_root(settings: Path) -> None:
    """Let Mosquitto stay root, which could not read a test's folder as its own user."""
    if os.geteuid() == 0:
        settings.write_text("user root\n" + settings.read_text())
