"""Send a span to an OpenTelemetry collector for every request that reached a model.

Needs the extra ``traces``. A span is made after its request has finished. It belongs to the
caller's trace if the call's metadata has a W3C ``traceparent``.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cloud.models.job import Job, Prediction
from cloud.models.served import ServedModel
from shared.errors import RequestError

HEADER = "traceparent"
CLOSE_S = 3  # longest wait for an unreachable collector when the server stops
_propagator = TraceContextTextMapPropagator()


class Traces:
    """Sends spans in the background to ``endpoint``: ``http://HOST:PORT`` or ``https://...``."""

    def __init__(self, endpoint: str) -> None:
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=CLOSE_S)
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: "taper-cloud"}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("taper.cloud")

    def close(self) -> None:
        """Send the remaining spans and stop."""
        self._provider.shutdown()

    def parent(self, context: Any) -> Context:
        """Return the trace context in a call's metadata; an empty one if there is none."""
        metadata = dict(context.invocation_metadata() or ())
        return _propagator.extract({HEADER: str(metadata.get(HEADER, ""))})

    def record(
        self,
        outcome: Prediction | RequestError,
        model: ServedModel,
        job: Job,
        request_id: int,
        client: str,
        parent: Context | None,
    ) -> None:
        """Make the span of a request that has just been answered or refused."""
        now_ns = time.time_ns()
        attributes: dict[str, str | int | float] = {
            "rpc.system": "grpc",
            "taper.client": client,
            "taper.request": request_id,
            "taper.model": model.name,
            "taper.version": model.version,
            "taper.level": job.level,
            "taper.samples": job.samples,
        }
        taken_ns = 0
        if isinstance(outcome, Prediction):
            attributes["taper.cloud_fraction"] = model.cloud_levels[outcome.cloud_level]
            attributes["taper.queue_us"] = outcome.queue_us
            attributes["taper.compute_us"] = outcome.compute_us
            taken_ns = 1000 * (outcome.queue_us + outcome.compute_us)
        span = self._tracer.start_span(
            "infer",
            context=parent,
            kind=SpanKind.SERVER,
            start_time=now_ns - taken_ns,
            attributes=attributes,
        )
        if isinstance(outcome, RequestError):
            span.set_status(Status(StatusCode.ERROR, f"{outcome.grpc_status}: {outcome}"))
        span.end(now_ns)
