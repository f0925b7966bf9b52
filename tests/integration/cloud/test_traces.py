"""Spans of the server at a real OTLP collector."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import FeatureCodec
from shared.protocol.messages import Request, request_to_message
from tests.support.processes import start_server

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
LEVEL = 2


class Collector(collector_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: queue.SimpleQueue[Span] = queue.SimpleQueue()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put(span)
        return collector_pb.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(ThreadPoolExecutor(2))
    service = Collector()
    collector_grpc.add_TraceServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def attributes(span: Span) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes
    }


def test_every_request_is_a_span(collector: tuple[Collector, str]) -> None:
    service, endpoint = collector
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    images, _ = sample_digits()
    features = DeviceHalf(bundle).run(images[:1][..., None], LEVEL)
    frame = FeatureCodec(bundle).encode(features, LEVEL)
    messages = [request_to_message(Request(place, "", "", frame)) for place in range(3)]
    bad = pb.InferRequest(id=3, level=99, encoding=pb.ENCODING_RAW, payload=b"")
    with start_server("--otlp-endpoint", endpoint) as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = split_pb2_grpc.SplitInferenceStub(channel)
            stub.Infer(messages[0], metadata=PARENT)
            answered = list(stub.InferStream(iter([*messages[1:], bad])))
        assert len(answered) == 3
    spans: dict[int, Span] = {}
    while len(spans) < 4:  # the server sends what is left before it ends
        span = service.spans.get(timeout=10)
        spans[attributes(span)["taper.request"]] = span
    first = attributes(spans[0])
    assert spans[0].trace_id.hex() == TRACE
    assert spans[1].trace_id.hex() != TRACE
    assert first["taper.model"] == DEFAULT_MODEL
    assert first["taper.cloud_fraction"] == 1.0
    assert first["taper.samples"] == 1
    duration_us = (spans[0].end_time_unix_nano - spans[0].start_time_unix_nano) / 1000
    assert duration_us == first["taper.queue_us"] + first["taper.compute_us"]
    assert spans[3].status.code == Status.STATUS_CODE_ERROR
    assert "level: 99 is not allowed" in spans[3].status.message
