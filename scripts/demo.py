"""``make demo``: a real server and a real client over the shipped test digits, one table.

With a file name, the table is saved there too, as SVG.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

# The text of the table's first column, and the client's flags. Without --no-exit the exit head
# answers the samples of which it is confident: nearly all of these digits.
RUNS = (
    *(
        (fraction, ("--fraction", fraction, "--no-exit"))
        for fraction in ("0.1", "0.3", "0.5", "1.0")
    ),
    ("0.3 + exit", ("--fraction", "0.3")),
    ("auto", ("--fraction", "auto")),
)
HEADINGS = (
    "fraction",
    "channels\nsent",
    "bytes per\nimage",
    "accuracy",
    "median\nms",
    "p99\nms",
    "answered\nby",
)


@contextmanager
def running_server() -> Iterator[str]:
    """Run a server on a free loopback port within a ``with`` block; yields its address."""
    command = [sys.executable, "-m", "cloud.server", "--host", "127.0.0.1", "--port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line.startswith("listening on "):
                log.seek(0)
                sys.exit(f"the server did not start\n{log.read()}")
            yield line.removeprefix("listening on ").strip()
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def run_client(flags: tuple[str, ...], address: str) -> dict[str, Any]:
    """Run the client over the shipped sample; return its summary."""
    command = [sys.executable, "-m", "device.client", *flags]
    command += ["--server", address, "--output", "json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120)
    summary: dict[str, Any] = json.loads(done.stdout)["summary"]
    return summary


def row(name: str, summary: dict[str, Any]) -> list[str]:
    """Make the table's cells of one run."""
    return [
        name,
        "/".join(str(channels) for channels in summary["channels"]),
        f"{summary['mean_payload_bytes']:.1f}",
        f"{summary['accuracy']:.1%}",
        f"{summary['median_latency_ms']:.2f}",
        f"{summary['p99_latency_ms']:.2f}",
        "+".join(summary["sources"]),
    ]


def main() -> None:
    """Start the server, run the client at every fraction, print one table, stop the server."""
    console = Console(record=True, width=80)
    with running_server() as address:
        table = Table(
            title=f"200 MNIST test digits, split between a device and {address}",
        )
        for heading in HEADINGS:
            table.add_column(heading, justify="right", no_wrap=True)
        with console.status("running") as status:
            for name, flags in RUNS:
                command = f"python -m device.client {' '.join(flags)} --server {address}"
                status.update(command)
                table.add_row(*row(name, run_client(flags, address)))
        console.print(table)
    if len(sys.argv) > 1:
        console.save_svg(sys.argv[1], title="make demo")


if __name__ == "__main__":
    main()
