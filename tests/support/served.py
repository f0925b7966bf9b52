"""A server process with its metrics page, as operators start and watch it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import ROOT, Finished, environment, run_client

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Served:
    """A server with its metrics endpoint."""

    address: str
    metrics: str
    process: subprocess.Popen[str]

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value; 0 if it is not there."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        for family in families:
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0


@contextmanager
def serve(*flags: str, log: Path | None = None, **variables: str) -> Iterator[Served]:
    """A server process on free ports; it must end within its time on SIGTERM.

    Its log lines go to the file ``log``, or to where the test's own go.
    """
    command = [sys.executable, "-m", "cloud.server", "--host", "127.0.0.1", "--port", "0"]
    with contextlib.nullcontext() if log is None else log.open("w") as errors:
        process = subprocess.Popen(
            [*command, "--metrics-port", "0", *flags],
            cwd=ROOT,
            env={**environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        lines = [process.stdout.readline() if process.stdout else "" for _ in range(2)]
        assert lines[0].startswith("listening on "), lines
        yield Served(lines[0].split()[-1], lines[1].split()[-1], process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def eventually(true: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, "did not happen"
        time.sleep(0.05)


def classify(served: Served, *flags: str) -> Finished:
    """All digits of the sample through the cloud, as JSON."""
    more = ("--server", served.address, "--no-exit", "--fraction", "0.3", "--output", "json")
    return run_client(*more, *flags)
