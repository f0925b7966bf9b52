"""The service ``taper.split.v1.SplitInference``.

Inference handlers take and return serialised messages; gRPC does not convert them.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import grpc

from cloud.access.control import DRAINING, UNKNOWN_CALLER, AccessControl, Caller, Context
from cloud.rpc.call import Registry, answer_unary, gated, refuse
from cloud.rpc.service import InferenceService
from cloud.rpc.stream import StreamSession
from protos.split.v1 import split_pb2 as pb
from shared.errors import InvalidRequestError, RequestError, UnavailableError
from shared.protocol.messages import model_to_message

SERVICE = pb.DESCRIPTOR.services_by_name["SplitInference"].full_name
CHUNK_BYTES = 64 * 2**10


class Session(Protocol):
    """Answers the requests of one stream."""

    async def run(self, access: AccessControl) -> None:
        """Serve until the stream ends; raises ``UnavailableError`` while draining."""


class SplitInferenceServicer:
    """Handlers of the service's four methods; ``session`` makes a ``Session`` for each stream."""

    def __init__(
        self,
        service: InferenceService,
        access: AccessControl,
        session: Callable[[InferenceService, Any, Caller], Session] = StreamSession,
    ) -> None:
        self._service = service
        self._access = access
        self._session = session

    def add_to(self, server: Registry) -> None:
        """Register the methods with ``server``."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Infer": grpc.unary_unary_rpc_method_handler(self.infer),
            "InferStream": grpc.stream_stream_rpc_method_handler(self.infer_stream),
            "GetModel": grpc.unary_unary_rpc_method_handler(
                gated(self._access, self.get_model),
                pb.GetModelRequest.FromString,
                pb.GetModelResponse.SerializeToString,
            ),
            "GetDevicePart": grpc.unary_stream_rpc_method_handler(
                self.get_device_part,
                pb.GetDevicePartRequest.FromString,
                pb.GetDevicePartResponse.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def infer(self, data: bytes, context: Context) -> bytes:
        """Answer one request."""
        return await answer_unary(
            self._service,
            self._access,
            context,
            data,
            lambda caller: self._service.submit(data, caller, context.time_remaining()),
        )

    async def infer_stream(self, requests: AsyncIterator[bytes], context: Context) -> None:  # noqa: ARG002 - the session reads from the context
        """Answer a stream of requests, each as soon as its answer is ready."""
        try:
            with self._access.stream(context) as caller:
                await self._session(self._service, context, caller).run(self._access)
        except RequestError as error:
            if not isinstance(error, UnavailableError):  # the normal end of an admitted stream
                self._service.count_refusal(error, UNKNOWN_CALLER, 0)
            await refuse(context, error)

    async def get_model(self, request: pb.GetModelRequest, _: Context) -> pb.GetModelResponse:
        """Describe a model."""
        catalog = self._service.catalog
        model = catalog.find(request.model)
        versions = [served.version for served in catalog.versions[model.name]]
        return model_to_message(model.bundle, versions)

    async def get_device_part(
        self, request: pb.GetDevicePartRequest, context: Context
    ) -> AsyncIterator[pb.GetDevicePartResponse]:
        """Send the device's part of a model in chunks, from byte ``offset`` on."""
        try:
            with self._access.call(context):
                for part in self._device_part(request):
                    yield part
        except RequestError as error:
            await refuse(context, error)

    def _device_part(self, request: pb.GetDevicePartRequest) -> Iterator[pb.GetDevicePartResponse]:
        model = self._service.catalog.find(request.model, request.version)
        data = model.device_part
        if request.offset > len(data):
            raise InvalidRequestError(
                f"offset: {request.offset} is beyond the end; the file has {len(data)} bytes"
            )
        yield pb.GetDevicePartResponse(
            version=model.version,
            total_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            chunk=data[request.offset : request.offset + CHUNK_BYTES],
        )
        for start in range(request.offset + CHUNK_BYTES, len(data), CHUNK_BYTES):
            if self._access.draining.is_set():
                raise UnavailableError(DRAINING)
            yield pb.GetDevicePartResponse(chunk=data[start : start + CHUNK_BYTES])
