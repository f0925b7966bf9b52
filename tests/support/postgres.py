"""A real PostgreSQL on a free port with a temporary data directory."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.support.clouds import free_port
from tests.support.processes import ROOT

START_S = 30
SYSTEM = f"{os.environ.get('PATH', '')}:/usr/sbin"


def programs() -> Path:
    """Where Debian puts the server's programs, which are not on the path."""
    if not (shutil.which("pg_createcluster") and shutil.which("pgbouncer", path=SYSTEM)):
        words = [str(ROOT / "scripts/system-deps"), "store"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            if os.environ.get("CI") == "true":
                pytest.fail(done.stderr.strip())
            pytest.skip(done.stderr.strip())
    return max(Path("/usr/lib/postgresql").glob("*/bin"))


@dataclass
class Postgres:
    """A server that can be stopped and started again with its data."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://taper@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = [
            str(programs() / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
            "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, **_user())  # type: ignore[call-overload]
        ready = [str(programs() / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        for _ in range(START_S):
            if not subprocess.run([*ready, "-t", "1"], check=False).returncode:
                return
        raise RuntimeError((self.folder / "log").read_text())

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGINT is PostgreSQL's fast shutdown, SIGQUIT its crash."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(START_S)
            self.process = None

    def clear(self) -> None:
        """Drop all tables."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("DROP SCHEMA IF EXISTS taper CASCADE")
            connection.execute("CREATE SCHEMA public")


def _user() -> dict[str, object]:
    """PostgreSQL does not run as root."""
    if os.geteuid():
        return {}
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that trusts whoever connects from this machine."""
    found = programs()
    # Not a test's own folder: those belong to root alone.
    folder = Path(tempfile.mkdtemp(prefix="taper-postgres-"))
    try:
        if not os.geteuid():
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        make = [str(found / "initdb"), "-D", str(folder / "data"), "-U", "taper"]
        words = [*make, "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(words, check=True, capture_output=True, cwd="/", **_user())  # type: ignore[call-overload]
        running = Postgres(folder, free_port())
        running.start()
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def pgbouncer(server: Postgres) -> Iterator[str]:
    """A pooler in transaction mode in front of ``server``; yields the URL of the store."""
    port = free_port()
    settings = server.folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n"
        f"postgres = host=127.0.0.1 port={server.port} dbname=postgres user=taper\n"
        f"[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\n"
    )
    words = [shutil.which("pgbouncer", path=SYSTEM) or "pgbouncer", str(settings)]
    with (server.folder / "pgbouncer.log").open("ab") as log:
        running = subprocess.Popen(words, stdout=log, stderr=log, **_user())  # type: ignore[call-overload]
    url = f"postgresql://taper@127.0.0.1:{port}/postgres"
    try:
        end_s = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(url, connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                if time.monotonic() > end_s or running.poll() is not None:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        running.terminate()
        running.wait(START_S)
