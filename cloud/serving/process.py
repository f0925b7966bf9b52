"""One server process: the gRPC port with its services, health, model reloads and draining."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cloud.access.connections import send_goaway
from cloud.access.control import AccessControl
from cloud.models.catalog import Catalog
from cloud.observability.metrics import Snapshot
from cloud.rpc import health, open_inference, reflection, servicer
from cloud.rpc.tensor_inference import TensorInference
from cloud.serving.address import bind_error, joined
from cloud.serving.assembly import Assembly, assembled
from cloud.serving.broker import answering_broker
from cloud.serving.fronts import Front, front_of
from cloud.serving.http import http_port
from cloud.settings import ServerSettings
from shared.errors import UsageError

# The server stops after this long without a call: by then clients have read the GOAWAY frame.
QUIET_S = 0.2
DRAIN_POLL_S = 0.01


@dataclass(frozen=True)
class ServerProcess:
    """A process that serves gRPC on ``port`` and REST on ``http_port``, if that is not None."""

    port: int
    http_port: int | None
    assembly: Assembly
    front: Front

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of the models that are being served."""
        return self.assembly.service.catalog.names

    async def snapshot(self) -> Snapshot:
        """Return all metrics; a coroutine, so that other threads can run it in the event loop."""
        self.front.collect()
        return self.assembly.snapshot()


@contextlib.asynccontextmanager
async def serving(
    settings: ServerSettings, shared_port: bool = False
) -> AsyncIterator[ServerProcess]:
    """Serve while the block runs, then drain: answer requests in progress and refuse new ones.

    ``shared_port`` lets other processes listen on the same port. Raises ``UsageError`` that names
    an unusable setting.
    """
    async with (
        assembled(settings) as assembly,
        answering_broker(settings, assembly.service, assembly.access),
    ):
        front = front_of(settings, shared_port, assembly)
        server = front.handlers
        servicer.SplitInferenceServicer(assembly.service, assembly.access, front.session).add_to(
            server
        )
        inference = TensorInference(assembly.service, assembly.repository)
        open_inference.OpenInferenceServicer(assembly.service, inference, assembly.access).add_to(
            server
        )
        checks = health.HealthServicer(assembly.access)
        checks.add_to(server)
        services = (servicer.SERVICE, open_inference.SERVICE, health.SERVICE)
        if settings.reflection:
            names = (*services, reflection.SERVICE)
            reflection.ReflectionServicer(names, assembly.access).add_to(server)
        port = await front.start()
        if port is None:
            address, reason = (
                joined(settings.host, settings.port),
                bind_error(settings.host, settings.port),
            )
            raise UsageError(f"--host/--port: cannot listen on {address} ({reason})")

        def serve(catalog: Catalog) -> None:
            front.serve(catalog)
            checks.set_serving(_healthy(catalog))

        assembly.service.on_catalog = serve
        serve(assembly.service.catalog)
        async with (
            http_port(
                settings, assembly.service, inference, assembly.access, shared_port
            ) as rest_port,
            asyncio.TaskGroup() as group,
        ):
            reloading = group.create_task(_follow_models(settings, assembly), name="models")
            guarding = group.create_task(assembly.access.guard_connections(port), name="guard")
            gc.collect()
            gc.freeze()  # objects made so far live on, so the collector need not scan them again
            try:
                yield ServerProcess(port, rest_port, assembly, front)
            finally:
                checks.drain()
                await _drain(front, assembly.access, settings, port)
                gc.unfreeze()  # otherwise cycles among those objects are never collected
                reloading.cancel()
                guarding.cancel()


async def _drain(front: Front, access: AccessControl, settings: ServerSettings, port: int) -> None:
    """End streams, answer requests in progress for at most ``drain_seconds``, and stop."""
    end_s = time.monotonic() + settings.drain_seconds
    access.draining.set()
    asked = send_goaway(port, encrypted=settings.tls_cert is not None)
    while time.monotonic() < end_s:
        front.collect()
        under_way = access.in_flight or front.calls
        if not under_way and (not asked or access.quiet_s >= QUIET_S):
            break
        await asyncio.sleep(DRAIN_POLL_S)
    # Calls that are left are those of clients that do not read, or arrived too late.
    await front.stop(min(max(end_s - time.monotonic(), 0.0), QUIET_S))


async def _follow_models(settings: ServerSettings, assembly: Assembly) -> None:
    """Serve each new catalog of the model folder."""
    if settings.models is None:
        return
    async for catalog in assembly.repository.changes(settings.models_poll_seconds):
        assembly.service.replace_catalog(catalog)


def _healthy(catalog: Catalog) -> tuple[str, ...]:
    """Return the names that are SERVING: the models and, if there is any, the server as a whole."""
    return ("", servicer.SERVICE, *catalog.names) if catalog.names else ()
