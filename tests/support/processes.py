"""Real programs as a user starts them: the server, and the client's command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
RUN_SECONDS = 100
STOP_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and its process."""

    address: str
    process: subprocess.Popen[str]


@dataclass(frozen=True)
class Finished:
    """A client that has ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--output json`` printed."""
        value: dict[str, Any] = json.loads(self.out)
        return value


def environment() -> dict[str, str]:
    """The environment of programs under test: a wide terminal, so that lines stay whole.

    pytest's variable is left out: NiceGUI would serve in another way.
    """
    own = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return {**own, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


@contextmanager
def start_server(*flags: str, port: int = 0, log: Path | None = None) -> Iterator[Server]:
    """A server process that runs while the block does; it is ended whatever happens."""
    command = [sys.executable, "-m", "cloud.server", "--host", "127.0.0.1", "--port", str(port)]
    with Path(log or os.devnull).open("w") as errors:
        process = subprocess.Popen(
            [*command, *flags],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("listening on "):
            raise RuntimeError(f"the server did not start: {line!r}")
        yield Server(line.removeprefix("listening on ").strip(), process)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def client_command(*flags: str) -> list[str]:
    """The words of the client's command line."""
    return [sys.executable, "-m", "device.client", *flags]


def run_client(*flags: str, stdin: bytes = b"", model: str = "mnist-binary-paper") -> Finished:
    """Run ``python -m device.client`` to its end."""
    return run(client_command("--model", model, *flags), stdin)


def run(command: Sequence[str], stdin: bytes = b"", timeout_s: float = RUN_SECONDS) -> Finished:
    """Run a program to its end."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, cwd=ROOT, env=environment(), timeout=timeout_s
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
