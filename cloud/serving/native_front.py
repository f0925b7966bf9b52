"""The native front: gRPC's C++ server, which answers plain requests in its own threads.

It shares the dispatcher with Python's scheduler. Python gives it the models and the tokens, and
answers all other requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cloud.access.cuts import CutConnections
from cloud.access.security import Pem, certificates_of
from cloud.models.catalog import Catalog
from cloud.rpc.call import Registry
from cloud.rpc.native_server import NativeServer
from cloud.rpc.native_stream import NativeStreamSession
from cloud.serving.address import joined
from cloud.serving.assembly import TICK_S, Assembly
from cloud.settings import LogLevel, ServerSettings
from shared.errors import UsageError

if TYPE_CHECKING:
    from cloud.native._front import Front

MISSING = (
    "--front native: this installation has no native front; install Debian's libgrpc++-dev "
    "(scripts/system-deps front), then taper again"
)


PemFiles = tuple[bytes, bytes, bytes]  # key, certificate, clients' authorities (may be empty)
Fetch = Callable[[], PemFiles | None]


class NativeFront:
    """gRPC's C++ server with ``settings.threads`` threads; ``UsageError`` if it was not built."""

    session = NativeStreamSession

    def __init__(self, settings: ServerSettings, shared_port: bool, assembly: Assembly) -> None:
        self._settings = settings
        self._assembly = assembly
        self._front = _made(settings, shared_port, assembly)
        self._server = NativeServer(self._front)
        self._owners: Mapping[bytes, str] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._cuts = CutConnections()
        self._stopping = False

    @property
    def handlers(self) -> Registry:
        """The registry for the services' handlers."""
        return self._server

    @property
    def calls(self) -> int:
        """Number of inference calls in progress."""
        return self._front.calls

    async def start(self) -> int | None:
        """Listen, with TLS if there is a certificate; returns the port, or None if it is taken."""
        self._follow_tokens()
        address = joined(self._settings.host, self._settings.port)
        port = self._front.start(address, _certificates(self._settings))
        if not port:
            return None
        self._server.listen()
        self._ticking = asyncio.create_task(self._tick(), name="native front")
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, and end those in progress after ``grace_s`` seconds."""
        self._stopping = True
        await self._server.stop(grace_s)
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        self.collect()
        self._cuts.log(math.inf)

    def serve(self, catalog: Catalog) -> None:
        """Serve the models of ``catalog`` from now on."""
        if not self._stopping:
            self._front.serve([model.native for model in catalog.models])

    def collect(self) -> None:
        """Report which connections have been used, and which were cut, since the last call."""
        self._assembly.access.used(self._front.take_used())
        count, peer, fault = self._front.take_cuts()
        self._assembly.metrics.counters["connections_cut"] += count
        self._cuts.note(count, peer, fault)

    async def _tick(self) -> None:
        """Report used connections to access control and the threads' load to the scheduler."""
        wall_s, cpu_s = time.perf_counter(), self._front.cpu_s
        while True:
            await asyncio.sleep(TICK_S)
            self.collect()
            self._cuts.log(time.monotonic())
            self._follow_tokens()
            now_s, now_cpu_s = time.perf_counter(), self._front.cpu_s
            share = (now_cpu_s - cpu_s) / ((now_s - wall_s) * self._settings.threads)
            self._assembly.scheduler.front_busy = min(max(share, 0.0), 1.0)
            wall_s, cpu_s = now_s, now_cpu_s

    def _follow_tokens(self) -> None:
        owners = self._assembly.access.token_owners()
        if owners is not self._owners:
            self._owners = owners
            self._front.set_owners(owners)


def _made(settings: ServerSettings, shared_port: bool, assembly: Assembly) -> Front:
    try:
        from cloud.native import _front
    except ImportError:
        raise UsageError(MISSING) from None
    return _front.Front(
        dispatcher=assembly.scheduler.dispatcher,
        threads=settings.threads,
        max_message_bytes=settings.max_message_bytes,
        max_streams=settings.max_streams_per_client,
        shared_port=shared_port,
        all_to_python=settings.otlp_endpoint is not None,
        tell_refusals=settings.log_level is LogLevel.DEBUG,
        max_calls=settings.max_calls_per_client,
        max_call_bytes=settings.max_bytes_per_client,
    )


def _certificates(settings: ServerSettings) -> Fetch | None:
    """Return the function by which the front fetches certificates; None without TLS.

    gRPC's threads call it at the start and at every new connection.
    """
    certificates = certificates_of(settings)
    if certificates is None:
        return None
    first: list[Pem] = [certificates.pem]

    def fetch() -> PemFiles | None:
        pem = first.pop() if first else certificates.fetch()
        return None if pem is None else (pem.key, pem.certificate, pem.client_authorities or b"")

    return fetch
