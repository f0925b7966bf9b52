"""One gate for every RPC: tokens, limits of a client, streams that end and are opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc
from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.data.sample import sample_digits
from shared.images.idx import write_idx
from tests.support.processes import run_client
from tests.support.served import Served, serve

MODEL = "mnist-binary-paper"
TOKEN = "a-token-of-more-than-16"


def reflect(channel: grpc.Channel, metadata: Any) -> Any:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    return list(stub.ServerReflectionInfo(iter([request]), metadata=metadata))


def split(name: str, *requests: Any) -> Callable[[grpc.Channel, Any], Any]:
    def call(channel: grpc.Channel, metadata: Any) -> Any:
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        if name in ("GetDevicePart", "InferStream"):
            given = iter(requests) if name == "InferStream" else requests[0]
            return list(getattr(stub, name)(given, metadata=metadata))
        return getattr(stub, name)(requests[0], metadata=metadata)

    return call


def open_inference(name: str, request: Any) -> Callable[[grpc.Channel, Any], Any]:
    def call(channel: grpc.Channel, metadata: Any) -> Any:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        return getattr(stub, name)(request, metadata=metadata)

    return call


CALLS: dict[str, Callable[[grpc.Channel, Any], Any]] = {
    "GetModel": split("GetModel", pb.GetModelRequest()),
    "GetDevicePart": split("GetDevicePart", pb.GetDevicePartRequest()),
    "InferStream": split("InferStream", pb.InferRequest()),
    "ServerLive": open_inference("ServerLive", oip.ServerLiveRequest()),
    "ServerReady": open_inference("ServerReady", oip.ServerReadyRequest()),
    "ServerMetadata": open_inference("ServerMetadata", oip.ServerMetadataRequest()),
    "ModelReady": open_inference("ModelReady", oip.ModelReadyRequest(name=MODEL)),
    "ModelMetadata": open_inference("ModelMetadata", oip.ModelMetadataRequest(name=MODEL)),
    "ModelConfig": open_inference("ModelConfig", oip.ModelConfigRequest(name=MODEL)),
    "ModelStatistics": open_inference("ModelStatistics", oip.ModelStatisticsRequest()),
    "RepositoryIndex": open_inference("RepositoryIndex", oip.RepositoryIndexRequest()),
    "reflection": reflect,
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"gate-1 {TOKEN}\n")
    with serve("--model", MODEL, "--token-file", str(tokens)) as served:
        yield served


@pytest.mark.parametrize("name", CALLS)
def test_every_rpc_wants_a_token(guarded: Served, name: str) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            CALLS[name](channel, None)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        CALLS[name](channel, [("authorization", f"Bearer {TOKEN}")])


def test_an_admin_unloads_and_loads_a_model(tmp_path: Path) -> None:
    tokens = tmp_path / "admins"
    tokens.write_text(f"root {TOKEN}\n")
    with (
        serve("--model", MODEL, "--admin-token-file", str(tokens)) as served,
        grpc.insecure_channel(served.address) as channel,
    ):
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        shown = (("authorization", f"Bearer {TOKEN}"),)

        def ready() -> bool:
            return bool(stub.ModelReady(oip.ModelReadyRequest(name=MODEL)).ready)

        unload = oip.RepositoryModelUnloadRequest(model_name=MODEL)
        with pytest.raises(grpc.RpcError) as refused:
            stub.RepositoryModelUnload(unload)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert ready()
        stub.RepositoryModelUnload(unload, metadata=shown)
        assert not ready()
        (gone,) = stub.RepositoryIndex(oip.RepositoryIndexRequest()).models
        assert (gone.name, gone.state, gone.reason) == (MODEL, "UNAVAILABLE", "unloaded")
        stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=MODEL), metadata=shown)
        assert ready()


def test_a_probe_of_health_needs_no_token(guarded: Served) -> None:
    with grpc.insecure_channel(guarded.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_watchers_count_against_the_calls_of_their_client() -> None:
    with (
        serve("--model", MODEL, "--max-calls-per-client", "2") as served,
        grpc.insecure_channel(served.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watchers = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        for watcher in watchers:
            next(watcher)
        with pytest.raises(grpc.RpcError) as refused:
            split_pb2_grpc.SplitInferenceStub(channel).GetModel(pb.GetModelRequest())
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 calls" in str(refused.value.details())
        for watcher in watchers:
            watcher.cancel()


def test_the_library_renews_old_streams_without_losing_a_sample(tmp_path: Path) -> None:
    images, _ = sample_digits()
    write_idx(tmp_path / "many.idx", np.repeat(images, 20, axis=0))
    with serve("--model", MODEL, "--max-stream-seconds", "0.3") as served:
        done = run_client(
            *("--model", MODEL, "--server", served.address, "--no-exit", "--output", "json"),
            *("--input", str(tmp_path / "many.idx")),
        )
        assert done.status == 0, done.err
        assert done.document["summary"]["answered"] == 4000
        assert served.sample("taper_requests_total", status="UNAVAILABLE") == 0
