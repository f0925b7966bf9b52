"""The lines that a server prints once it listens."""

from __future__ import annotations

import sys

from cloud.serving.address import joined
from cloud.settings import ServerSettings


def announce(
    settings: ServerSettings, port: int, metrics_port: int | None, http_port: int | None
) -> None:
    """Print the addresses, gRPC's first; ports that are None are left out."""
    sys.stdout.write(f"listening on {joined(settings.host, port)}\n")
    if metrics_port is not None:
        sys.stdout.write(f"metrics on {joined(settings.metrics_host, metrics_port)}\n")
    if http_port is not None:
        sys.stdout.write(f"http on {joined(settings.host, http_port)}\n")
    sys.stdout.flush()
