"""Assemble the parts that answer requests, for a server process or a Ray replica."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from cloud.access.clients import Limits
from cloud.access.control import AccessControl
from cloud.access.security import Tokens, admins_of, tokens_of
from cloud.models.repository import Repository
from cloud.observability.metrics import Metrics, Snapshot
from cloud.rpc.service import InferenceService
from cloud.scheduling.compute import ComputeThread
from cloud.scheduling.scheduler import Scheduler
from cloud.scheduling.settings import SchedulerSettings
from cloud.settings import FrontKind, ServerSettings
from shared.command import needing_extra

if TYPE_CHECKING:  # opentelemetry is an optional extra
    from cloud.observability.tracing import Traces

TICK_S = 0.05
TOKENS_POLL_S = 1.0
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True)
class Assembly:
    """The parts of a running inference service."""

    repository: Repository
    scheduler: Scheduler
    metrics: Metrics
    access: AccessControl
    service: InferenceService

    def snapshot(self) -> Snapshot:
        """Return all metrics as they are now; must be called in the event loop."""
        counted = self.scheduler.counters()
        requests, samples = self.scheduler.queued
        gauges = {
            "queue_requests": requests,
            "queue_samples": samples,
            "streams": self.access.streams,
            "cloud_fraction": self.scheduler.fraction,
            "load": self.scheduler.load,
            "workers": 1,
        }
        return self.metrics.snapshot(gauges, self.service.catalog.models, counted)


@contextlib.asynccontextmanager
async def assembled(settings: ServerSettings) -> AsyncIterator[Assembly]:
    """Run the service that ``settings`` describe, with its thread and background tasks.

    Yields its parts. Raises ``UsageError`` or ``BundleError`` that names the unusable setting or
    file.
    """
    metrics = Metrics()
    repository = Repository(settings.model, settings.models, metrics.models_loaded)
    catalog = repository.scan()
    tokens, traces = tokens_of(settings), _traces_of(settings)
    limits = Limits(
        streams=settings.max_streams_per_client,
        connections=settings.max_connections_per_client,
        calls=settings.max_calls_per_client,
        call_bytes=settings.max_bytes_per_client,
    )
    admins = admins_of(settings)
    access = AccessControl(limits, tokens, traces, settings.max_stream_seconds, admins)
    with ComputeThread() as thread:
        scheduler = Scheduler(_scheduler_settings(settings), thread)
        scheduler.serve(catalog)
        service = InferenceService(catalog, scheduler, metrics, traces)
        tasks = [asyncio.create_task(_tick(scheduler, metrics), name="tick")]
        files = [file for file in (tokens, admins) if file is not None]
        tasks.extend(asyncio.create_task(_follow(file), name="tokens") for file in files)
        try:
            yield Assembly(repository, scheduler, metrics, access, service)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if traces is not None:
                await asyncio.to_thread(traces.close)


def _scheduler_settings(settings: ServerSettings) -> SchedulerSettings:
    return SchedulerSettings(
        max_batch=settings.max_batch,
        max_delay_s=settings.max_delay_us * 1e-6,
        objective_s=settings.slo_ms * 1e-3,
        max_queue=settings.max_queue,
        fraction=settings.cloud_fraction,
        threads=settings.threads if settings.front is FrontKind.NATIVE else 1,
    )


def _traces_of(settings: ServerSettings) -> Traces | None:
    if settings.otlp_endpoint is None:
        return None
    with needing_extra("traces", "--otlp-endpoint"):
        from cloud.observability.tracing import Traces
    return Traces(settings.otlp_endpoint)


async def _tick(scheduler: Scheduler, metrics: Metrics) -> None:
    """Report load and delay of the event loop to the scheduler; count changes of the fraction."""
    fraction = scheduler.fraction
    wall_s, cpu_s = time.perf_counter(), time.thread_time()
    while True:
        await asyncio.sleep(TICK_S)
        now_s, now_cpu_s = time.perf_counter(), time.thread_time()
        passed_s = now_s - wall_s
        scheduler.tick(min((now_cpu_s - cpu_s) / passed_s, 1.0), max(passed_s - TICK_S, 0.0))
        wall_s, cpu_s = now_s, now_cpu_s
        if scheduler.fraction != fraction:
            _log.info("cloud fraction", before=fraction, now=scheduler.fraction)
            fraction = scheduler.fraction
            metrics.counters["level_changes"] += 1


async def _follow(tokens: Tokens) -> None:
    """Read the token file again when it changes."""
    while True:
        await asyncio.sleep(TOKENS_POLL_S)
        if await asyncio.to_thread(tokens.reload):
            _log.info("tokens were read again")
