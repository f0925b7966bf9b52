"""The Open Inference Protocol: any KServe or Triton client may send images or device features.

Images run through the device half here, so a client needs nothing of ours. Either way the bits then
take the path of every other request: admission, batches, the cloud level that the load allows.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from cloud.access.gate import NOBODY, Caller, Context, Gate
from cloud.models.served import ServedModel
from cloud.rpc import open_inference_messages as messages
from cloud.rpc.answering import Answering
from cloud.rpc.servicer import refuse
from protos.inference import open_inference_pb2 as pb
from protos.inference import open_inference_pb2_grpc
from shared.errors import InvalidRequestError, RequestError
from shared.model.bits import unused_bits_are_zero
from shared.packed import DeviceHalf
from shared.protocol.codec import LARGEST_BATCH, Encoding, Frame
from shared.protocol.messages import Request

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
INLINE_IMAGES = 16  # more would keep the event loop for longer than a call takes

Features = npt.NDArray[np.uint8]


class OpenInferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers requests through ``answering``; ``gate`` says who may ask."""

    def __init__(self, answering: Answering, gate: Gate) -> None:
        self._answering = answering
        self._gate = gate
        self._halves: WeakKeyDictionary[ServedModel, DeviceHalf] = WeakKeyDictionary()

    async def ServerLive(  # noqa: N802 - the protocol's name
        self,
        request: pb.ServerLiveRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ServerLiveResponse:
        """Whoever gets an answer knows that the server lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802 - the protocol's name
        self,
        request: pb.ServerReadyRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ServerReadyResponse:
        """Ready once there is a model."""
        return pb.ServerReadyResponse(ready=bool(self._answering.catalog.models))

    async def ModelReady(  # noqa: N802 - the protocol's name
        self,
        request: pb.ModelReadyRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.ModelReadyResponse:
        """Whether the model is served."""
        try:
            self._answering.catalog.find(request.name, request.version)
        except RequestError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(  # noqa: N802 - the protocol's name
        self,
        request: pb.ServerMetadataRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ServerMetadataResponse:
        """Name and version."""
        return messages.server_to_message()

    async def ModelMetadata(  # noqa: N802 - the protocol's name
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model."""
        try:
            self._gate.caller(context)
            catalog = self._answering.catalog
            model = catalog.find(request.name, request.version)
        except RequestError as error:
            await refuse(context, error)
        versions = [served.version for served in catalog.versions[model.name]]
        return messages.metadata_to_message(model.bundle, versions)

    async def ModelInfer(  # noqa: N802 - the protocol's name
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        """Answer one request."""
        caller = NOBODY
        try:
            caller = self._gate.caller(context)
            asked = messages.request_from_message(request)
            model = self._answering.catalog.find(asked.model, asked.version)
            level = _device_level(model, asked)
            features = await self._features(model, asked, level)
            answer = await self._classify(
                model, asked, features, level, caller, context.time_remaining()
            )
        except RequestError as error:
            self._answering.refused(error, 0, caller, request.ByteSize())
            await refuse(context, error)
        response = messages.answer_to_message(asked, model.name, model.version, answer)
        self._answering.answered(request.ByteSize(), response.ByteSize())
        return response

    async def _features(
        self, model: ServedModel, asked: messages.TensorRequest, level: int
    ) -> Features:
        """Packed bits (N, bytes) of the request's images or features."""
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
        if asked.name == messages.FEATURES:
            if not unused_bits_are_zero(values, sent.size):
                raise InvalidRequestError("features: the unused bits after a sample must be 0")
            return values
        half = self._halves.get(model)
        if half is None:
            half = self._halves[model] = DeviceHalf(model.bundle)
        if len(values) <= INLINE_IMAGES:
            return half.run(values, level)
        return await asyncio.to_thread(half.run, values, level)

    async def _classify(
        self,
        model: ServedModel,
        asked: messages.TensorRequest,
        features: Features,
        level: int,
        caller: Caller,
        remaining_s: float | None,
    ) -> messages.TensorAnswer:
        """The answers to all samples, in requests of at most ``LARGEST_BATCH``."""
        classes = model.bundle.architecture.classes
        parts = [features[i : i + LARGEST_BATCH] for i in range(0, len(features), LARGEST_BATCH)]
        labels: list[int] = []
        probabilities = np.zeros((len(features), classes), np.float32)
        cloud_level = 0
        for part in parts:
            frame = Frame(level, len(part), Encoding.RAW, part.tobytes())
            request = Request(0, model.name, model.version, frame, asked.cloud_level, classes)
            response = await self._answering.finish(request, caller, remaining_s)
            cloud_level = response.cloud_level
            for answer in response.answers:
                for label, probability in answer.candidates:
                    probabilities[len(labels), label] = probability
                labels.append(answer.label)
        return messages.TensorAnswer(np.array(labels, np.int64), probabilities, cloud_level)


def _device_level(model: ServedModel, asked: messages.TensorRequest) -> int:
    levels = model.bundle.architecture.device_levels
    if asked.level is None:
        return len(levels) - 1
    if asked.level >= len(levels):
        listed = ", ".join(f"{i} ({f:g})" for i, f in enumerate(levels))
        raise InvalidRequestError(f"level: {asked.level} is not allowed; levels are {listed}")
    return asked.level
