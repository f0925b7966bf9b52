"""Simulated fleets and controllers as processes, and an audit of their telemetry."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shared.bundles import bundle_path
from shared.model.bundle import make_bundle, read_bundle, write_bundle
from tests.support.processes import ROOT, STOP_SECONDS, environment


@dataclass(frozen=True)
class Audit:
    """How many messages of telemetry were numbered, stored, missing and stored twice."""

    numbered: int
    stored: int
    lost: int
    duplicate: int


def audit(ledger: Path, store: Path) -> Audit:
    """Compare the ledger of a fleet that has ended with the controller's store."""
    with closing(sqlite3.connect(ledger)) as database:
        numbered = dict(database.execute("SELECT name, next_sequence - 1 FROM device").fetchall())
    with closing(sqlite3.connect(store)) as database:
        rows = database.execute("SELECT device, sequence FROM telemetry").fetchall()
    kept = set(rows)
    wanted = {(name, n) for name, last in numbered.items() for n in range(1, last + 1)}
    return Audit(len(wanted), len(rows), len(wanted - kept), len(rows) - len(kept))


@contextmanager
def process(module: str, *flags: str, log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """``python -m MODULE`` while the block runs; its standard output can be read."""
    with Path(log or "/dev/null").open("a") as errors:
        made = start(module, flags, errors.fileno())
    try:
        yield made
    finally:
        stop(made)


def start(module: str, flags: Sequence[str], errors: int) -> subprocess.Popen[str]:
    """Start ``python -m MODULE``."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *flags],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True,
    )  # fmt: skip


def stop(running: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> None:
    """End a process and close its pipe."""
    if running.poll() is None:
        running.send_signal(number)
        try:
            running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
    running.wait()
    if running.stdout:
        running.stdout.close()


def wait_for_line(running: subprocess.Popen[str], text: str) -> str:
    """The first line of standard output with ``text`` in it; ``RuntimeError`` if none comes."""
    assert running.stdout is not None
    for line in running.stdout:
        if text in line:
            return line
    raise RuntimeError(f"ended with status {running.wait()} before it said {text!r}")


def shifted_bundle(folder: Path, name: str = "mnist-shifted", shift: int = 1) -> Path:
    """Write the shipped model with its classes off, as from labels that were read wrongly."""
    bundle = read_bundle(bundle_path("mnist-binary"))
    heads = ("cloud.classify.weight", "exit.exit.weight")
    rolled = {head: np.roll(bundle.tensors[head], shift, axis=0) for head in heads}
    metadata = replace(bundle.metadata, name=name)
    path = folder / f"{name}.safetensors"
    write_bundle(make_bundle(metadata, {**bundle.tensors, **rolled}), path)
    return path
