"""A real HAProxy with the settings that ship in ``deploy/haproxy``."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.clouds import free_port
from tests.support.processes import ROOT

SETTINGS = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
START_S = 20.0


def need_haproxy() -> None:
    """Install the proxy where we may; else skip, or fail where CI says that nothing may skip."""
    if shutil.which("haproxy"):
        return
    done = subprocess.run([ROOT / "scripts/system-deps", "proxy"], capture_output=True, text=True)
    if done.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(done.stderr.strip())
        pytest.skip(done.stderr.strip())


@dataclass(frozen=True)
class ServerState:
    """The proxy's state of a server."""

    up: bool
    streams: int
    requests: int


@dataclass(frozen=True)
class Proxy:
    """A running proxy: where devices connect to, and its admin socket."""

    address: str
    admin: Path
    process: subprocess.Popen[bytes]

    def ask(self, command: str) -> str:
        """The answer to a command of HAProxy's runtime interface."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.admin))
            connection.sendall(command.encode() + b"\n")
            parts = []
            while part := connection.recv(2**16):
                parts.append(part)
        return b"".join(parts).decode()

    def servers(self) -> dict[str, ServerState]:
        """State of every server, by name."""
        rows = csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines())
        return {
            row["svname"]: ServerState(
                row["status"].startswith("UP"), int(row["scur"]), int(row["stot"])
            )
            for row in rows
            if row["pxname"] == "cloud" and row["svname"] != "BACKEND"
        }

    def up(self) -> list[str]:
        """Names of the servers that get new streams."""
        return [name for name, state in self.servers().items() if state.up]


@contextmanager
def haproxy(folder: Path, servers: Sequence[str]) -> Iterator[Proxy]:
    """A proxy in front of ``servers`` (HOST:PORT each) while the block runs."""
    need_haproxy()
    admin = folder / "proxy.sock"
    port, stats = free_port(), free_port()
    listed = [f"    server cloud-{n} {address}" for n, address in enumerate(servers, 1)]
    (folder / "servers.cfg").write_text("backend cloud\n" + "\n".join(listed) + "\n")
    variables = {
        "TAPER_PROXY_BIND": f"127.0.0.1:{port}",
        "TAPER_PROXY_ADMIN": str(admin),
        "TAPER_PROXY_STATS": f"127.0.0.1:{stats}",
    }
    with (folder / "proxy.log").open("ab") as log:
        process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(SETTINGS), "-f", str(folder / "servers.cfg")],
            env={**os.environ, **variables},
            stderr=log,
        )
    proxy = Proxy(f"127.0.0.1:{port}", admin, process)
    try:
        _wait_until_up(proxy, len(servers), folder / "proxy.log")
        yield proxy
    finally:
        process.terminate()
        process.wait()


def _wait_until_up(proxy: Proxy, count: int, log: Path) -> None:
    end_s = time.monotonic() + START_S
    while proxy.process.poll() is None and time.monotonic() < end_s:
        if proxy.admin.exists() and len(proxy.up()) == count:
            return
        time.sleep(0.05)
    proxy.process.kill()
    raise RuntimeError(log.read_text())
