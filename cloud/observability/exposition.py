"""The metrics endpoint ``GET /metrics`` in Prometheus's text format, in its own thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from cloud.observability.metrics import Snapshot, families
from shared.errors import UsageError


class _Live(Collector):
    """Collects a new snapshot at every scrape."""

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that registering does not take a snapshot."""
        return ()

    def collect(self) -> Iterable[Metric]:
        return families(self._take())


@asynccontextmanager
async def exposed(
    take: Callable[[], Snapshot], host: str, port: int | None
) -> AsyncIterator[int | None]:
    """Serve the snapshots that ``take`` returns while the block runs; yields the port.

    ``take`` is called in the endpoint's threads. If ``port`` is None, nothing is served and None is
    yielded.
    """
    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(_Live(take))
    try:
        server, thread = start_http_server(port, host.strip("[]"), registry)
    except OSError as error:
        raise UsageError(
            f"--metrics-host/--metrics-port: cannot listen on {host}:{port} ({error.strerror})"
        ) from None
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(_close, server, thread)


def _close(server: WSGIServer, thread: Thread) -> None:
    """Stop the endpoint. Blocks until its next poll, so it must not run in the event loop."""
    server.shutdown()
    server.server_close()
    thread.join()
