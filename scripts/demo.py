"""``make demo``: a real server and a real client over the shipped test digits, one table."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

FRACTIONS = ("0.1", "0.3", "0.5", "1.0", "auto")
STARTUP_SECONDS = 30


def run_client(fraction: str, address: str) -> dict[str, Any]:
    """The summary of one run of the client over the shipped sample."""
    command = [sys.executable, "-m", "device.client", "--fraction", fraction]
    command += ["--server", address, "--output", "json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120)
    summary: dict[str, Any] = json.loads(done.stdout)["summary"]
    return summary


def row(fraction: str, summary: dict[str, Any]) -> list[str]:
    """The cells of one run."""
    used = "/".join(f"{level:g}" for level in summary["fractions"])
    return [
        fraction if fraction == used else f"{fraction} -> {used}",
        "/".join(str(channels) for channels in summary["channels"]),
        f"{summary['mean_payload_bytes']:.1f}",
        f"{summary['accuracy']:.1%}",
        f"{summary['median_latency_ms']:.2f} ms",
        f"{summary['p99_latency_ms']:.2f} ms",
        ", ".join(f"{source} {count}" for source, count in summary["sources"].items()),
    ]


def main() -> None:
    """Start the server, run the client at every fraction, print one table, stop the server."""
    console = Console()
    command = [sys.executable, "-m", "cloud.server", "--host", "127.0.0.1", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline() if server.stdout else ""
        if not line.startswith("listening on "):
            sys.exit("the server did not start")
        address = line.removeprefix("listening on ").strip()
        table = Table(title=f"200 MNIST test digits, split between this process and {address}")
        for heading in (
            "fraction",
            "channels sent",
            "bytes per image",
            "accuracy",
            "median latency",
            "p99 latency",
            "answered by",
        ):
            table.add_column(heading, justify="right", no_wrap=True)
        with console.status("running") as status:
            for fraction in FRACTIONS:
                status.update(f"python -m device.client --fraction {fraction} --server {address}")
                table.add_row(*row(fraction, run_client(fraction, address)))
        console.print(table)
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
