"""The gRPC servicer: messages in, messages out, errors as status codes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import NoReturn

from cloud.access.gate import GOING_AWAY, NOBODY, Context, Gate
from cloud.rpc.answering import Answering, status_of
from cloud.rpc.stream import StreamSession
from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.errors import InvalidRequestError, OverloadedError, RequestError, UnavailableError
from shared.protocol.messages import model_to_message, request_from_message

CHUNK_BYTES = 64 * 2**10
PUSHBACK_KEY = "grpc-retry-pushback-ms"
GO_AWAY_MS = 100  # when a client of a stream that was ended by a drain may come back


class SplitInferenceServicer(split_pb2_grpc.SplitInferenceServicer):
    """Answers requests through ``answering``; ``gate`` says who may ask."""

    def __init__(self, answering: Answering, gate: Gate) -> None:
        self._answering = answering
        self._gate = gate

    async def Infer(  # noqa: N802 - the protocol's name
        self, request: pb.InferRequest, context: Context
    ) -> pb.InferResponse:
        """Answer one request."""
        caller = NOBODY
        try:
            caller = self._gate.caller(context)
            outcome = await self._answering.finish(
                request_from_message(request), caller, context.time_remaining()
            )
        except RequestError as error:
            self._answering.refused(error, request.id, caller, request.ByteSize())
            await refuse(context, error)
        return self._answering.message(outcome, request.id, caller, request.ByteSize())

    async def InferStream(  # type: ignore[override]  # noqa: N802 - the protocol's name
        self,
        request_iterator: AsyncIterator[pb.InferRequest],  # noqa: ARG002 - the session reads
        context: Context,
    ) -> None:
        """Answer a stream of requests, each as soon as it is ready."""
        try:
            with self._gate.stream(context) as caller:
                await StreamSession(self._answering, context, caller).run(self._gate)
        except RequestError as error:
            if not self._gate.draining.is_set():  # then it ends a stream that was let in
                self._answering.refused(error, 0, NOBODY, 0)
            await refuse(context, error)

    async def GetModel(  # noqa: N802 - the protocol's name
        self, request: pb.GetModelRequest, context: Context
    ) -> pb.GetModelResponse:
        """Describe a model."""
        try:
            self._gate.caller(context)
            catalog = self._answering.catalog
            model = catalog.find(request.model)
        except RequestError as error:
            await refuse(context, error)
        versions = [served.version for served in catalog.versions[model.name]]
        return model_to_message(model.bundle, versions)

    async def GetDevicePart(  # noqa: N802 - the protocol's name
        self, request: pb.GetDevicePartRequest, context: Context
    ) -> AsyncIterator[pb.GetDevicePartResponse]:
        """Send the device's part of a model from ``offset`` on."""
        try:
            self._gate.caller(context)
            model = self._answering.catalog.find(request.model, request.version)
            data = model.device_part
            if request.offset > len(data):
                raise InvalidRequestError(
                    f"offset: {request.offset} is beyond the end; the file has {len(data)} bytes"
                )
        except RequestError as error:
            await refuse(context, error)
        yield pb.GetDevicePartResponse(
            version=model.version,
            total_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            chunk=data[request.offset : request.offset + CHUNK_BYTES],
        )
        for start in range(request.offset + CHUNK_BYTES, len(data), CHUNK_BYTES):
            if self._gate.draining.is_set():
                await refuse(context, UnavailableError(GOING_AWAY))
            yield pb.GetDevicePartResponse(chunk=data[start : start + CHUNK_BYTES])


async def refuse(context: Context, error: RequestError) -> NoReturn:
    """End a call with the status of ``error``, and when it may be tried again."""
    wait_ms = 0
    if isinstance(error, OverloadedError):
        wait_ms = error.retry_after_ms
    elif isinstance(error, UnavailableError):
        wait_ms = GO_AWAY_MS
    trailing = ((PUSHBACK_KEY, str(wait_ms)),) if wait_ms else ()
    await context.abort(status_of(error), str(error), trailing)
