"""A real Mosquitto on a free port, with the settings that ship in ``deploy/mosquitto``."""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from shared.fleet.broker import Broker, parse_broker
from tests.support.clouds import free_port
from tests.support.debian import need
from tests.support.processes import ROOT

DEPLOY = ROOT / "deploy" / "mosquitto"


def need_mosquitto() -> None:
    """Install the broker and what provisioning needs; else skip, or fail under CI=true."""
    need("broker", "mosquitto", "mosquitto_passwd", "openssl")


def provisioning() -> ModuleType:
    """The provisioning script as a module."""
    spec = importlib.util.spec_from_file_location("provision", DEPLOY / "provision.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Mosquitto:
    """A broker that can be killed and started again on the same port and folder."""

    folder: Path
    port: int
    settings: Path
    process: subprocess.Popen[bytes] | None = None
    passwords: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def broker(self) -> Broker:
        return parse_broker(self.url)

    def secure(self, user: str | None, password: str | None = None) -> Broker:
        """As ``user``, over TLS, with its own password unless another is given."""
        word = self.passwords.get(user or "") if password is None else password
        return parse_broker(f"mqtts://localhost:{self.port}", user, word, ca=self.folder / "ca.crt")

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        log = (self.folder / "log").open("ab")
        words = ["mosquitto", "-c", str(self.settings)]
        self.process = subprocess.Popen(words, stdout=log, stderr=log)
        log.close()
        end_s = time.monotonic() + 20
        while time.monotonic() < end_s and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError((self.folder / "log").read_text())

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default as a power cut would."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)


@contextmanager
def mosquitto(folder: Path, users: tuple[str, ...] = ()) -> Iterator[Mosquitto]:
    """A broker: with ``users`` (FLEET/DEVICE) the secured one, else the loopback one."""
    need_mosquitto()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = folder / "mosquitto.conf"
    passwords: dict[str, str] = {}
    if users:
        fleet = users[0].partition("/")[0]
        names = [word for user in users for word in ("--device", user.partition("/")[2])]
        script = [sys.executable, str(DEPLOY / "provision.py"), str(folder), "--fleet", fleet]
        subprocess.run([*script, *names, "--port", str(port)], check=True, capture_output=True)
        with (folder / "credentials.csv").open(newline="") as file:
            passwords = {row[0]: row[1] for row in csv.reader(file)}
    else:
        text = provisioning().configuration("loopback.conf.in", folder, port)
        settings.write_text(text)
    if os.geteuid() == 0:
        # As root it would become the user mosquitto, who may not read a test's folder.
        settings.write_text("user root\n" + settings.read_text())
    running = Mosquitto(folder, port, settings, passwords=passwords)
    running.start()
    try:
        yield running
    finally:
        running.kill(signal.SIGTERM)
