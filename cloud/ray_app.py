"""The server's answers behind Ray Serve's gRPC ingress: ``serve run deploy/ray/serve_config.yaml``.

Ray starts, watches and scales replicas; in each runs the servicer that ``cloud.server`` runs.
Settings come from the environment (``TAPER_MODEL`` ...); port, TLS and workers are Ray's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any, NoReturn

import grpc
from ray import serve

from cloud.access.clients import ClientLimits
from cloud.access.gate import Gate
from cloud.access.security import tokens_of
from cloud.models.repository import Repository
from cloud.observability.metrics import Metrics
from cloud.rpc.answering import Answering
from cloud.rpc.servicer import SplitInferenceServicer
from cloud.scheduling.compute import ComputeThread
from cloud.scheduling.scheduler import Scheduler
from cloud.serving.process import policy, reread, tick, tracing
from cloud.settings import Settings, load
from protos.split.v1 import split_pb2 as pb
from shared.errors import UsageError

NOT_HERE = ("models", "tls_cert", "client_ca", "metrics_port")


class EndedError(Exception):
    """A call that the servicer ended with a status; the status is on Ray's context."""


class RayContext:
    """What the servicer needs of a gRPC context, made of what Ray passes on of it.

    A stream's messages come from ``incoming``; what is written waits for ``written``. Ray does not
    pass on deadlines.
    """

    def __init__(self, context: Any, incoming: AsyncIterator[pb.InferRequest] | None = None):
        self._context = context
        self._incoming = incoming
        self._outgoing: asyncio.Queue[pb.InferResponse | None] = asyncio.Queue(1)

    def peer(self) -> str:
        """The caller's address."""
        return str(self._context.peer())

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """The caller's metadata."""
        return list(self._context.invocation_metadata())

    def time_remaining(self) -> None:
        """Not known."""

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
        """The next message of the stream, or ``grpc.aio.EOF``."""
        if self._incoming is None:
            raise RuntimeError("no stream")
        try:
            return await anext(self._incoming)
        except StopAsyncIteration:
            return grpc.aio.EOF

    async def write(self, message: pb.InferResponse) -> None:
        """Hand over an answer; waits while the one before has not been taken."""
        await self._outgoing.put(message)

    async def end(self) -> None:
        """Nothing more will be written."""
        await self._outgoing.put(None)

    async def written(self) -> AsyncIterator[pb.InferResponse]:
        """Everything that is written, until ``end``."""
        while (message := await self._outgoing.get()) is not None:
            yield message


class Replica:
    """One replica: models, scheduler and servicer, without a port of its own."""

    async def __init__(self, settings: Settings | None = None) -> None:  # type: ignore[misc]
        settings = checked(load({}) if settings is None else settings)
        self._stack = AsyncExitStack()
        metrics = Metrics()

        def told(loads: int, failures: int) -> None:
            metrics.counters["model_loads"] += loads
            metrics.counters["model_load_failures"] += failures

        repository = Repository(settings.model, None, told)
        catalog = repository.scan()
        thread = self._stack.enter_context(ComputeThread())
        scheduler = Scheduler(policy(settings), thread, metrics)
        scheduler.serve(catalog)
        limits = ClientLimits(settings.max_streams_per_client, settings.max_connections_per_client)
        tokens, traces = tokens_of(settings), tracing(settings)
        answering = Answering(catalog, scheduler, metrics, traces)
        self._servicer = SplitInferenceServicer(answering, Gate(limits, tokens, traces))
        self._tasks = [asyncio.create_task(tick(scheduler, metrics), name="tick")]
        if tokens is not None:
            self._tasks.append(asyncio.create_task(reread(tokens), name="tokens"))

    async def Infer(self, request: pb.InferRequest, grpc_context: Any) -> Any:  # noqa: N802
        """Answer one request."""
        return await self._servicer.Infer(request, _as_grpc(RayContext(grpc_context)))

    async def InferStream(  # noqa: N802
        self, requests: AsyncIterator[pb.InferRequest], grpc_context: Any
    ) -> AsyncIterator[pb.InferResponse]:
        """Answer a stream of requests, each as soon as it is ready."""
        context = RayContext(grpc_context, requests)
        abandoned = False  # nobody takes what is written any more

        async def serve_stream() -> None:
            try:
                await self._servicer.InferStream(requests, _as_grpc(context))
            finally:
                if not abandoned:
                    await context.end()

        serving = asyncio.create_task(serve_stream(), name="stream")
        try:
            async for message in context.written():
                yield message
            await serving
        finally:
            abandoned = True
            serving.cancel()
            with suppress(asyncio.CancelledError, EndedError):
                await serving

    async def GetModel(self, request: pb.GetModelRequest, grpc_context: Any) -> Any:  # noqa: N802
        """Describe a model."""
        return await self._servicer.GetModel(request, _as_grpc(RayContext(grpc_context)))

    async def GetDevicePart(  # noqa: N802
        self, request: pb.GetDevicePartRequest, grpc_context: Any
    ) -> AsyncIterator[pb.GetDevicePartResponse]:
        """Send the device's part of a model."""
        context = _as_grpc(RayContext(grpc_context))
        async for part in self._servicer.GetDevicePart(request, context):
            yield part


def checked(settings: Settings) -> Settings:
    """``settings`` if a replica can do what they ask for; ``UsageError`` names what it cannot."""
    for name in NOT_HERE:
        if getattr(settings, name) is not None:
            raise UsageError(f"TAPER_{name.upper()}: is not possible on Ray Serve")
    return settings


def _as_grpc(context: RayContext) -> Any:
    """For the type checker: it has what the servicer uses, and is no ``ServicerContext``."""
    return context


app = serve.deployment(Replica).bind()
