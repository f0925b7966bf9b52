"""What a server prints once it listens."""

from __future__ import annotations

import sys

from cloud.settings import Settings


def announce(settings: Settings, port: int, metrics_port: int | None) -> None:
    """Say where the server listens; whoever started it with port 0 reads the first line."""
    sys.stdout.write(f"listening on {settings.host}:{port}\n")
    if metrics_port is not None:
        sys.stdout.write(f"metrics on {settings.metrics_host}:{metrics_port}\n")
    sys.stdout.flush()
