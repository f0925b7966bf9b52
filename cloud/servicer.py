"""The gRPC servicer: messages in, messages out, errors as status codes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, NoReturn

import grpc

from cloud.models import Models, ServedModel
from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundle import DEVICE_GROUPS, serialise
from shared.errors import InvalidRequestError, RequestError
from shared.protocol import (
    Failure,
    Request,
    Response,
    model_to_message,
    request_from_message,
    response_to_message,
)

CHUNK_BYTES = 64 * 2**10
STREAM_IN_FLIGHT = 64  # requests of one stream that are worked on before its reading pauses

Context = grpc.aio.ServicerContext[Any, Any]


class SplitInferenceServicer(split_pb2_grpc.SplitInferenceServicer):
    """Answers requests with ``models``; the computing happens on ``executor``, one at a time."""

    def __init__(self, models: Models, executor: Executor) -> None:
        self._models = models
        self._executor = executor

    async def Infer(  # noqa: N802 - the protocol's name
        self, request: pb.InferRequest, context: Context
    ) -> pb.InferResponse:
        """Answer one request."""
        try:
            return response_to_message(await self._answer(request_from_message(request)))
        except RequestError as error:
            await _refuse(context, error)

    async def InferStream(  # noqa: N802 - the protocol's name
        self,
        request_iterator: AsyncIterator[pb.InferRequest],
        context: Context,  # noqa: ARG002
    ) -> AsyncIterator[pb.InferResponse]:
        """Answer a stream of requests, each as soon as it is ready."""
        ready: asyncio.Queue[Response | None] = asyncio.Queue()
        slots = asyncio.Semaphore(STREAM_IN_FLIGHT)

        async def work(request: Request) -> None:
            await ready.put(await self._answer_or_failure(request))

        async def read() -> None:
            model, version = "", ""
            try:
                async with asyncio.TaskGroup() as group:
                    async for message in request_iterator:
                        await slots.acquire()
                        # A message that names nothing means what was named last.
                        if message.model or message.version:
                            model, version = message.model, message.version
                        try:
                            request = request_from_message(message)
                        except InvalidRequestError as error:
                            await ready.put(_failure(message.id, error))
                            continue
                        group.create_task(work(replace(request, model=model, version=version)))
            finally:
                ready.put_nowait(None)

        reader = asyncio.create_task(read(), name="stream reader")
        try:
            while (response := await ready.get()) is not None:
                slots.release()
                yield response_to_message(response)
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def GetModel(  # noqa: N802 - the protocol's name
        self, request: pb.GetModelRequest, context: Context
    ) -> pb.GetModelResponse:
        """Describe a model."""
        try:
            return model_to_message(self._models.find(request.model).bundle)
        except RequestError as error:
            await _refuse(context, error)

    async def GetDevicePart(  # noqa: N802 - the protocol's name
        self, request: pb.GetDevicePartRequest, context: Context
    ) -> AsyncIterator[pb.GetDevicePartResponse]:
        """Send the device's part of a model from ``offset`` on."""
        try:
            model = self._models.find(request.model)
            model.check_version(request.version)
            data = serialise(model.bundle, DEVICE_GROUPS)
            if request.offset > len(data):
                raise InvalidRequestError(
                    f"offset: {request.offset} is beyond the end; the file has {len(data)} bytes"
                )
        except RequestError as error:
            await _refuse(context, error)
        yield pb.GetDevicePartResponse(
            version=model.bundle.metadata.version,
            total_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            chunk=data[request.offset : request.offset + CHUNK_BYTES],
        )
        for start in range(request.offset + CHUNK_BYTES, len(data), CHUNK_BYTES):
            yield pb.GetDevicePartResponse(chunk=data[start : start + CHUNK_BYTES])

    async def _answer(self, request: Request) -> Response:
        """Answer a request, or raise ``RequestError``."""
        model = self._models.find(request.model)
        model.check(request)
        level = model.widest if request.cloud_level is None else request.cloud_level
        arrived = time.perf_counter_ns()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, _compute, model, request, level, arrived)

    async def _answer_or_failure(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except RequestError as error:
            return _failure(request.id, error)


def _compute(model: ServedModel, request: Request, cloud_level: int, arrived_ns: int) -> Response:
    started = time.perf_counter_ns()
    answers = model.answer(request, cloud_level)
    finished = time.perf_counter_ns()
    return Response(
        id=request.id,
        answers=answers,
        cloud_level=cloud_level,
        queue_us=(started - arrived_ns) // 1000,
        compute_us=(finished - started) // 1000,
    )


def _status(error: RequestError) -> grpc.StatusCode:
    return grpc.StatusCode[error.grpc_status]


def _failure(request_id: int, error: RequestError) -> Response:
    code: int = _status(error).value[0]
    return Response(id=request_id, failure=Failure(code, str(error)))


async def _refuse(context: Context, error: RequestError) -> NoReturn:
    await context.abort(_status(error), str(error))
