"""The server as a Ray Serve application: ``serve run deploy/ray/serve_config.yaml``.

Ray starts, watches and scales replicas. Each replica runs the same service as ``cloud.server``
behind Ray's gRPC ingress, which provides the port, TLS and workers. Settings are read from the
environment (``TAPER_MODEL`` and so on).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any, NoReturn

import grpc
from ray import serve

from cloud.rpc.call import gated
from cloud.rpc.servicer import SplitInferenceServicer
from cloud.serving.assembly import assembled
from cloud.settings import ServerSettings, load
from protos.split.v1 import split_pb2 as pb
from shared.errors import UsageError

UNSUPPORTED = ("models", "tls_cert", "client_ca", "metrics_port", "http_port")


class EndedError(Exception):
    """Raised to end a call after its status has been set on Ray's context."""


class RayContext:
    """The parts of a gRPC context that the servicer uses, on top of Ray's context.

    ``incoming`` yields the serialised messages of a stream; ``written`` yields those that the
    servicer writes.
    """

    def __init__(self, context: Any, incoming: AsyncIterator[bytes] | None = None) -> None:
        self._context = context
        self._incoming = incoming
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue(1)

    def peer(self) -> str:
        """The caller's address."""
        return str(self._context.peer())

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """The caller's metadata."""
        return list(self._context.invocation_metadata())

    def time_remaining(self) -> None:
        """Return None: Ray does not pass deadlines on."""

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: tuple[tuple[str, str], ...] = (),
    ) -> NoReturn:
        """End the call with a status."""
        self._context.set_code(code)
        self._context.set_details(details)
        self._context.set_trailing_metadata(list(trailing_metadata))
        raise EndedError(details)

    async def read(self) -> Any:
        """The next serialised message of the stream, or ``grpc.aio.EOF``."""
        if self._incoming is None:
            raise RuntimeError("this call is no stream")
        try:
            return await anext(self._incoming)
        except StopAsyncIteration:
            return grpc.aio.EOF

    async def write(self, message: bytes) -> None:
        """Queue a response; waits until the previous one has been taken."""
        await self._outgoing.put(message)

    async def end(self) -> None:
        """Mark the end of the responses."""
        await self._outgoing.put(None)

    async def written(self) -> AsyncIterator[bytes]:
        """The responses until ``end``."""
        while (message := await self._outgoing.get()) is not None:
            yield message


class Replica:
    """One replica: the assembled service without a port of its own."""

    async def __init__(self, settings: ServerSettings | None = None) -> None:  # type: ignore[misc]
        settings = checked(load({}) if settings is None else settings)
        self._stack = AsyncExitStack()
        assembly = await self._stack.enter_async_context(assembled(settings))
        self._access = assembly.access
        self._servicer = SplitInferenceServicer(assembly.service, assembly.access)

    async def Infer(self, request: pb.InferRequest, grpc_context: Any) -> Any:  # noqa: N802
        """Answer one request."""
        context = _as_grpc(RayContext(grpc_context))
        answer = await self._servicer.infer(request.SerializeToString(), context)
        return pb.InferResponse.FromString(answer)

    async def InferStream(  # noqa: N802
        self, requests: AsyncIterator[pb.InferRequest], grpc_context: Any
    ) -> AsyncIterator[pb.InferResponse]:
        """Answer a stream of requests, each as soon as its answer is ready."""
        incoming = (request.SerializeToString() async for request in requests)
        context = RayContext(grpc_context, incoming)
        abandoned = False  # set when the client has gone and no response can be delivered

        async def serve_stream() -> None:
            try:
                await self._servicer.infer_stream(incoming, _as_grpc(context))
            finally:
                if not abandoned:
                    await context.end()

        serving = asyncio.create_task(serve_stream(), name="stream")
        try:
            async for message in context.written():
                yield pb.InferResponse.FromString(message)
            await serving
        finally:
            abandoned = True
            serving.cancel()
            with suppress(asyncio.CancelledError, EndedError):
                await serving

    async def GetModel(self, request: pb.GetModelRequest, grpc_context: Any) -> Any:  # noqa: N802
        """Describe a model."""
        method = gated(self._access, self._servicer.get_model)
        return await method(request, _as_grpc(RayContext(grpc_context)))

    async def GetDevicePart(  # noqa: N802
        self, request: pb.GetDevicePartRequest, grpc_context: Any
    ) -> AsyncIterator[pb.GetDevicePartResponse]:
        """Send the device's part of a model."""
        context = _as_grpc(RayContext(grpc_context))
        async for part in self._servicer.get_device_part(request, context):
            yield part


def checked(settings: ServerSettings) -> ServerSettings:
    """Return ``settings``; ``UsageError`` names a setting that a replica does not support."""
    for name in UNSUPPORTED:
        if getattr(settings, name) is not None:
            raise UsageError(f"TAPER_{name.upper()}: is not possible on Ray Serve")
    return settings


def _as_grpc(context: RayContext) -> Any:
    """Return ``context`` untyped: it has the needed parts of ``ServicerContext`` but is none."""
    return context


app = serve.deployment(Replica).bind()
