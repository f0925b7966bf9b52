"""The Open Inference Protocol over gRPC, for KServe and Triton clients.

Clients send whole images or device features. The server runs the device half on images; the
features then take the path of all other requests through the scheduler, which charges the client
for both halves.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message

from cloud.access.control import AccessControl, Caller, Context
from cloud.models.job import Job
from cloud.models.served import ServedModel
from cloud.rpc import open_inference_messages as messages
from cloud.rpc.call import answer_unary, gated
from cloud.rpc.service import Call, InferenceService
from protos.inference import open_inference_pb2 as pb
from shared.errors import InvalidRequestError, RequestError
from shared.model.bits import unused_bits_are_zero
from shared.protocol.codec import LARGEST_BATCH
from shared.protocol.responses import probabilities

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class OpenInferenceServicer:
    """Handlers of ``inference.GRPCInferenceService``."""

    def __init__(self, service: InferenceService, access: AccessControl) -> None:
        self._service = service
        self._access = access

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the methods with ``server``."""
        typed: dict[str, tuple[Callable[..., Any], type[Message]]] = {
            "ServerLive": (self.server_live, pb.ServerLiveRequest),
            "ServerReady": (self.server_ready, pb.ServerReadyRequest),
            "ServerMetadata": (self.server_metadata, pb.ServerMetadataRequest),
            "ModelReady": (self.model_ready, pb.ModelReadyRequest),
            "ModelMetadata": (self.model_metadata, pb.ModelMetadataRequest),
        }
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(
                gated(self._access, method), request.FromString, methodcaller("SerializeToString")
            )
            for name, (method, request) in typed.items()
        }
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self.model_infer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def server_live(self, _: pb.ServerLiveRequest, __: Context) -> pb.ServerLiveResponse:
        """True whenever there is an answer at all."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: pb.ServerReadyRequest, __: Context) -> pb.ServerReadyResponse:
        """Whether there is a model."""
        return pb.ServerReadyResponse(ready=bool(self._service.catalog.models))

    async def server_metadata(
        self, _: pb.ServerMetadataRequest, __: Context
    ) -> pb.ServerMetadataResponse:
        """Name and version of the server."""
        return messages.server_to_message()

    async def model_ready(self, request: pb.ModelReadyRequest, _: Context) -> pb.ModelReadyResponse:
        """Whether the model is served."""
        try:
            self._service.catalog.find(request.name, request.version)
        except RequestError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def model_metadata(
        self, request: pb.ModelMetadataRequest, _: Context
    ) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model."""
        catalog = self._service.catalog
        model = catalog.find(request.name, request.version)
        versions = [served.version for served in catalog.versions[model.name]]
        return messages.metadata_to_message(model.bundle, versions)

    async def model_infer(self, data: bytes, context: Context) -> bytes:
        """Answer one request."""
        return await answer_unary(
            self._service,
            self._access,
            context,
            data,
            lambda caller: self._infer(data, caller, context.time_remaining()),
        )

    async def _infer(self, data: bytes, caller: Caller, remaining_s: float | None) -> bytes:
        asked = messages.parse_request(data)
        model = self._service.catalog.find(asked.model, asked.version)
        level = _device_level(model, asked)
        _check_values(model, asked, level)
        answer = await self._classify(model, asked, level, Call(caller, 0, remaining_s))
        message = messages.answer_to_message(asked, model.name, model.version, answer)
        return message.SerializeToString()

    async def _classify(
        self, model: ServedModel, asked: messages.TensorRequest, level: int, call: Call
    ) -> messages.TensorAnswer:
        """The answers to all samples, in jobs of at most ``LARGEST_BATCH``."""
        found = []
        for start in range(0, len(asked.values), LARGEST_BATCH):
            part = asked.values[start : start + LARGEST_BATCH]
            job = Job(level, len(part), asked.cloud_level)
            if asked.name == messages.FEATURES:
                job.features = part
            else:
                job.images = part
            found.append(await self._service.classify(model, job, call))
        logits = np.concatenate([prediction.logits for prediction in found])
        return messages.TensorAnswer(
            logits.argmax(axis=1), probabilities(logits), found[-1].cloud_level
        )


def _check_values(model: ServedModel, asked: messages.TensorRequest, level: int) -> None:
    """Raise ``InvalidRequestError`` unless the tensor has the shape that the model takes."""
    values = asked.values
    shape = model.bundle.architecture.input_shape
    expected: tuple[int, ...] = (shape.height, shape.width, shape.channels)
    sent = model.bundle.architecture.sent_shape(level)
    if asked.name == messages.FEATURES:
        expected = (sent.packed_bytes,)
    if values.shape[1:] != expected:
        raise InvalidRequestError(
            f"shape: {list(values.shape)[:8]} of {asked.name} is not allowed; {model.name} "
            f"takes {[-1, *expected]}"
        )
    if asked.name == messages.FEATURES and not unused_bits_are_zero(values, sent.size):
        raise InvalidRequestError("features: the unused bits after a sample must be 0")


def _device_level(model: ServedModel, asked: messages.TensorRequest) -> int:
    levels = model.bundle.architecture.device_levels
    if asked.level is None:
        return len(levels) - 1
    if asked.level >= len(levels):
        listed = ", ".join(f"{i} ({f:g})" for i, f in enumerate(levels))
        raise InvalidRequestError(f"level: {asked.level} is not allowed; levels are {listed}")
    return asked.level
