"""The Open Inference Protocol over gRPC, with Triton's extensions, for KServe and Triton clients.

Clients send whole images or device features. The server runs the device half on images; the
features then take the path of all other requests through the scheduler, which charges the client
for both halves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import methodcaller
from typing import Any

import grpc
from google.protobuf.message import Message

from cloud.access.control import DRAINING, UNKNOWN_CALLER, AccessControl, Caller, Context
from cloud.rpc import open_inference_messages as messages
from cloud.rpc.call import Registry, answer_unary, gated, refuse
from cloud.rpc.service import Call, InferenceService
from cloud.rpc.tensor_inference import TensorInference
from protos.inference import open_inference_pb2 as pb
from shared.errors import RequestError, UnavailableError

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
IN_FLIGHT = 16  # reading a stream pauses at this many unanswered requests


class OpenInferenceServicer:
    """Handlers of ``inference.GRPCInferenceService``."""

    def __init__(
        self, service: InferenceService, inference: TensorInference, access: AccessControl
    ) -> None:
        self._service = service
        self._inference = inference
        self._access = access

    def add_to(self, server: Registry) -> None:
        """Register the methods with ``server``."""
        plain: dict[str, tuple[Callable[[Any], Message], Any]] = {
            "ServerLive": (self.server_live, pb.ServerLiveRequest),
            "ServerReady": (self.server_ready, pb.ServerReadyRequest),
            "ServerMetadata": (self.server_metadata, pb.ServerMetadataRequest),
            "ModelReady": (self.model_ready, pb.ModelReadyRequest),
            "ModelMetadata": (self.model_metadata, pb.ModelMetadataRequest),
            "ModelConfig": (self.model_config, pb.ModelConfigRequest),
            "ModelStatistics": (self.model_statistics, pb.ModelStatisticsRequest),
            "RepositoryIndex": (self.repository_index, pb.RepositoryIndexRequest),
        }
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: _unary(gated(self._access, _awaited(method)), request)
            for name, (method, request) in plain.items()
        }
        handlers["RepositoryModelLoad"] = _unary(
            self._administered(self.repository_model_load), pb.RepositoryModelLoadRequest
        )
        handlers["RepositoryModelUnload"] = _unary(
            self._administered(self.repository_model_unload), pb.RepositoryModelUnloadRequest
        )
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self.model_infer)
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self.model_stream_infer, None, methodcaller("SerializeToString")
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Answer true: a server that answers is live."""
        return pb.ServerLiveResponse(live=True)

    def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Answer whether at least one model is served."""
        return pb.ServerReadyResponse(ready=self._inference.ready)

    def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Answer with name, version and extensions of the server."""
        return messages.server_to_message()

    def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Answer whether the model is served."""
        return pb.ModelReadyResponse(ready=self._inference.is_ready(request.name, request.version))

    def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Answer with inputs and outputs of a model."""
        model = self._inference.find(request.name, request.version)
        return messages.metadata_to_message(model, self._inference.versions(model))

    def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """Answer with inputs, outputs and batch size of a model."""
        return messages.config_to_message(self._inference.find(request.name, request.version))

    def model_statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Answer with counts and times of the requests to one model or to all."""
        return messages.statistics_to_message(self._inference.models(request.name, request.version))

    def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Answer with the list of models."""
        return messages.index_to_message(self._inference.index(request.ready))

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model's changed files, and serve it if it had been unloaded."""
        await self._inference.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Stop serving a model."""
        await self._inference.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def model_infer(self, data: bytes, context: Context) -> bytes:
        """Answer one request."""
        return await answer_unary(
            self._service,
            self._access,
            context,
            data,
            lambda caller: self._infer(data, Call(caller, 0, context.time_remaining())),
        )

    async def model_stream_infer(self, _: AsyncIterator[bytes], context: Context) -> None:
        """Answer a stream of requests, each as soon as its answer is ready."""
        try:
            with self._access.stream(context) as caller:
                await self._answer_stream(context, caller)
                if self._access.draining.is_set():
                    raise UnavailableError(DRAINING)
        except RequestError as error:
            if not isinstance(error, UnavailableError):  # the normal end of an admitted stream
                self._service.count_refusal(error, UNKNOWN_CALLER, 0)
            await refuse(context, error)

    async def _answer_stream(self, context: Context, caller: Caller) -> None:
        room = asyncio.Semaphore(IN_FLIGHT)
        writing = asyncio.Lock()

        async def answer(data: bytes) -> None:
            try:
                response = await self._stream_response(data, caller)
                async with writing:
                    await context.write(response)
            finally:
                room.release()

        draining = asyncio.ensure_future(self._access.draining.wait())
        try:
            async with asyncio.TaskGroup() as group:
                while (data := await _next(context, draining)) is not None:
                    await room.acquire()
                    group.create_task(answer(data))
        finally:
            draining.cancel()

    async def _stream_response(self, data: bytes, caller: Caller) -> pb.ModelStreamInferResponse:
        try:
            answer = await self._infer(data, Call(caller))
        except RequestError as error:
            self._service.count_refusal(error, caller, len(data))
            failed = pb.ModelInferResponse(id=_id_of(data))
            return pb.ModelStreamInferResponse(error_message=str(error), infer_response=failed)
        self._service.count_answer(len(data), len(answer))
        return pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse.FromString(answer))

    async def _infer(self, data: bytes, call: Call) -> bytes:
        name = messages.model_named(data)
        at_once = self._service.answer_images_at_once(name, data, call.caller)
        if at_once is not None:
            return at_once
        answer = await self._inference.infer(messages.parse_request(data), call)
        return messages.answer_to_message(answer).SerializeToString()

    def _administered(
        self, method: Callable[[Any], Awaitable[Message]]
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        """Wrap a method so that only an admin may call it."""

        async def guarded(request: Any, context: Context) -> Any:
            try:
                with self._access.admin(context):
                    return await method(request)
            except RequestError as error:
                await refuse(context, error)

        return guarded


def _unary(
    method: Callable[[Any, Context], Awaitable[Any]], request: Any
) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        method, request.FromString, methodcaller("SerializeToString")
    )


def _awaited(method: Callable[[Any], Message]) -> Callable[[Any, Context], Awaitable[Message]]:
    async def call(request: Any, _: Context) -> Message:
        return method(request)

    return call


async def _next(context: Context, draining: asyncio.Future[Any]) -> bytes | None:
    """Wait for the next request; None at the end of the stream, or when the server drains."""
    reading = asyncio.ensure_future(context.read())
    await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
    if not reading.done():
        reading.cancel()
        return None
    data = reading.result()
    return None if data is grpc.aio.EOF else data


def _id_of(data: bytes) -> str:
    """Return the id of a refused request; empty if the message cannot be parsed."""
    try:
        return pb.ModelInferRequest.FromString(data).id
    except Exception:  # noqa: BLE001 - an unparsable message has been refused already
        return ""
