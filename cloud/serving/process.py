"""One server process: the gRPC port with its services, health, model reloads and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud.access.security import certificates_of
from cloud.models.catalog import Catalog
from cloud.observability.metrics import Snapshot
from cloud.rpc import open_inference, servicer
from cloud.serving.assembly import Assembly, assembled
from cloud.settings import ServerSettings
from shared.errors import UsageError

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True)
class ServerProcess:
    """A process that serves on ``port``."""

    port: int
    assembly: Assembly

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of the models that are served now."""
        return self.assembly.service.catalog.names

    async def snapshot(self) -> Snapshot:
        """All metrics; a coroutine, so that other threads can have it run in the event loop."""
        return self.assembly.snapshot()


@contextlib.asynccontextmanager
async def serving(
    settings: ServerSettings, shared_port: bool = False
) -> AsyncIterator[ServerProcess]:
    """Serve while the block runs, then drain: answer what is in flight and refuse what is new.

    ``shared_port`` lets other processes listen on the same port.
    """
    async with assembled(settings) as assembly:
        server = grpc.aio.server(options=_options(settings, shared_port))
        servicer.SplitInferenceServicer(assembly.service, assembly.access).add_to(server)
        open_inference.OpenInferenceServicer(assembly.service, assembly.access).add_to(server)
        checks = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        services = (servicer.SERVICE, open_inference.SERVICE, health.SERVICE_NAME)
        if settings.reflection:
            reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server)
        port = _listen(server, settings)
        await server.start()
        for name in ("", servicer.SERVICE, *assembly.service.catalog.names):
            await checks.set(name, SERVING)
        async with asyncio.TaskGroup() as group:
            reloading = group.create_task(_follow_models(settings, assembly, checks), name="models")
            gc.collect()
            gc.freeze()  # objects made so far stay; the collector need not scan them again
            try:
                yield ServerProcess(port, assembly)
            finally:
                await checks.enter_graceful_shutdown()
                assembly.access.draining.set()
                await server.stop(settings.drain_seconds)
                reloading.cancel()


async def _follow_models(
    settings: ServerSettings, assembly: Assembly, checks: health.aio.HealthServicer
) -> None:
    """Serve new catalogs of the model folder as they appear."""
    if settings.models is None:
        return
    service = assembly.service

    async def replace(catalog: Catalog) -> None:
        for name in set(service.catalog.names) - set(catalog.names):
            await checks.set(name, NOT_SERVING)
        service.catalog = catalog
        assembly.scheduler.serve(catalog)
        for name in catalog.names:
            await checks.set(name, SERVING)

    async for catalog in assembly.repository.changes(settings.models_poll_seconds):
        await replace(catalog)


def _listen(server: grpc.aio.Server, settings: ServerSettings) -> int:
    """Open the port, with TLS if there is a certificate; ``UsageError`` if that fails."""
    address = f"{settings.host}:{settings.port}"
    certificates = certificates_of(settings)
    try:
        if certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, certificates.credentials())
    except RuntimeError:
        raise UsageError(f"--host/--port: cannot listen on {address}") from None


def _options(settings: ServerSettings, shared_port: bool) -> list[tuple[str, int]]:
    """gRPC's channel arguments: message size, streams, keep-alive."""  # noqa: D403 - its name
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # Without this, a second server started on the port by mistake would get half the requests.
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_concurrent_streams", settings.max_streams_per_client),
        # Detect connections whose peer is gone, and cut clients that ping without end.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 3),
    ]
