"""One serving process, put together: models, scheduler, gRPC, health, metrics, drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud.access.clients import ClientLimits
from cloud.access.gate import Gate
from cloud.access.security import Tokens, certificates_of, tokens_of
from cloud.models.catalog import Catalog
from cloud.models.repository import Repository
from cloud.observability.metrics import Metrics, Snapshot
from cloud.rpc.answering import Answering
from cloud.rpc.open_inference import SERVICE as OPEN_INFERENCE
from cloud.rpc.open_inference import OpenInferenceServicer
from cloud.rpc.servicer import SplitInferenceServicer
from cloud.scheduling.compute import ComputeThread
from cloud.scheduling.scheduler import Policy, Scheduler
from cloud.settings import Settings
from protos.inference import open_inference_pb2_grpc
from protos.split.v1 import split_pb2, split_pb2_grpc
from shared.errors import UsageError

if TYPE_CHECKING:
    from cloud.observability.tracing import Traces

SERVICE = split_pb2.DESCRIPTOR.services_by_name["SplitInference"].full_name
TICK_S = 0.05
_log = structlog.stdlib.get_logger(__name__)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True)
class Running:
    """A process that serves: its port, what it serves, and its numbers."""

    port: int
    answering: Answering
    scheduler: Scheduler
    metrics: Metrics
    gate: Gate

    async def numbers(self) -> Snapshot:
        """``snapshot`` for other threads to ask for."""
        return self.snapshot()

    def snapshot(self) -> Snapshot:
        """All numbers as they are now; belongs to the event loop."""
        self.scheduler.account()
        requests, samples = self.scheduler.queued
        gauges = {
            "queue_requests": requests,
            "queue_samples": samples,
            "streams": self.gate.streams,
            "cloud_fraction": self.scheduler.fraction,
            "load": self.scheduler.load,
            "workers": 1,
        }
        return self.metrics.snapshot(gauges, self.answering.catalog.models)


@contextlib.asynccontextmanager
async def serving(settings: Settings, shared_port: bool = False) -> AsyncIterator[Running]:
    """Serve while the block runs. At its end: no new work, what is under way finishes, then stop.

    ``shared_port``: other processes listen on the same one.
    """
    metrics = Metrics()

    def told(loads: int, failures: int) -> None:
        metrics.counters["model_loads"] += loads
        metrics.counters["model_load_failures"] += failures

    repository = Repository(settings.model, settings.models, told)
    catalog = repository.scan()
    tokens = tokens_of(settings)
    limits = ClientLimits(settings.max_streams_per_client, settings.max_connections_per_client)
    traces = tracing(settings)
    gate = Gate(limits, tokens, traces)
    server = grpc.aio.server(options=options(settings, shared_port))
    checks = health.aio.HealthServicer()
    with ComputeThread() as thread:
        scheduler = Scheduler(policy(settings), thread, metrics)
        scheduler.serve(catalog)
        answering = Answering(catalog, scheduler, metrics, traces)
        split_pb2_grpc.add_SplitInferenceServicer_to_server(
            SplitInferenceServicer(answering, gate), server
        )
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            OpenInferenceServicer(answering, gate), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        if settings.reflection:
            names = (SERVICE, OPEN_INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        port = listen(server, settings)
        await server.start()
        for name in ("", SERVICE, *catalog.names):
            await checks.set(name, SERVING)

        async def replaced(new: Catalog) -> None:
            for name in set(answering.catalog.names) - set(new.names):
                await checks.set(name, NOT_SERVING)
            answering.catalog = new
            scheduler.serve(new)
            for name in new.names:
                await checks.set(name, SERVING)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(tick(scheduler, metrics), name="tick")]
            if settings.models is not None:
                watch = repository.watch(
                    settings.models_poll_seconds,
                    lambda new: group.create_task(replaced(new)),
                )
                tasks.append(group.create_task(watch, name="repository"))
            if tokens is not None:
                tasks.append(group.create_task(reread(tokens), name="tokens"))
            gc.collect()
            gc.freeze()  # what is loaded stays: the collector need not look at it between requests
            try:
                yield Running(port, answering, scheduler, metrics, gate)
            finally:
                await checks.enter_graceful_shutdown()
                gate.draining.set()
                await server.stop(settings.drain_seconds)
                for task in tasks:
                    task.cancel()
                if traces is not None:
                    await asyncio.to_thread(traces.close)


def tracing(settings: Settings) -> Traces | None:
    """Where spans go, if anywhere; ``UsageError`` if what sends them is not installed."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from cloud.observability.tracing import Traces
    except ImportError:
        raise UsageError("--otlp-endpoint: needs the extra: pip install 'taper[traces]'") from None
    return Traces(settings.otlp_endpoint)


def listen(server: grpc.aio.Server, settings: Settings) -> int:
    """Open the port, with TLS if there is a certificate; ``UsageError`` if it cannot be had."""
    address = f"{settings.host}:{settings.port}"
    certificates = certificates_of(settings)
    try:
        if certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, certificates.credentials())
    except RuntimeError:
        raise UsageError(f"--host/--port: cannot listen on {address}") from None


def options(settings: Settings, shared_port: bool) -> list[tuple[str, int]]:
    """GRPC's own settings: sizes, streams, and what clients may do to keep connections alive."""
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # Two servers on one port by mistake would each get half of the requests.
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_concurrent_streams", settings.max_streams_per_client),
        # A connection whose other end is gone is noticed; a client that pings without end is cut.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 3),
    ]


def policy(settings: Settings) -> Policy:
    """What the scheduler is to hold."""
    return Policy(
        max_batch=settings.max_batch,
        max_delay_s=settings.max_delay_us * 1e-6,
        objective_s=settings.slo_ms * 1e-3,
        max_queue=settings.max_queue,
        fraction=settings.cloud_fraction,
    )


async def tick(scheduler: Scheduler, metrics: Metrics) -> None:
    """Tell the scheduler how busy this event loop's thread is, and count its changes of level."""
    fraction = scheduler.fraction
    wall_s, cpu_s = time.perf_counter(), time.thread_time()
    while True:
        await asyncio.sleep(TICK_S)
        now_s, now_cpu_s = time.perf_counter(), time.thread_time()
        scheduler.tick(min((now_cpu_s - cpu_s) / (now_s - wall_s), 1.0))
        wall_s, cpu_s = now_s, now_cpu_s
        if scheduler.fraction != fraction:
            _log.info("cloud fraction", before=fraction, now=scheduler.fraction)
            fraction = scheduler.fraction
            metrics.counters["level_changes"] += 1


async def reread(tokens: Tokens) -> None:
    """Follow changes of the token file."""
    while True:
        await asyncio.sleep(1.0)
        if await asyncio.to_thread(tokens.reload):
            _log.info("tokens were read again")
