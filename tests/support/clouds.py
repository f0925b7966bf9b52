"""A small network with an exit head, and servers whose answers a test chooses."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import numpy as np

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.model.architecture import Architecture, Kind, Shape, Stage
from shared.model.bundle import DEVICE_GROUPS, Bundle, make_bundle, serialise
from shared.packed import CloudHalf
from shared.protocol.codec import FeatureCodec
from shared.protocol.looks import wanted
from shared.protocol.messages import (
    Answer,
    Failure,
    Request,
    Response,
    model_to_message,
    request_from_message,
    response_to_message,
)
from tests.support.networks import random_bundle

Respond = Callable[[Request], Awaitable[Response | None]]
CURVE = [[0.0, 1.0, 0.9, 0.9], [0.5, 0.8, 0.95, 0.93], [0.9, 0.4, 0.99, 0.96]]


def tiny_architecture(exit_head: bool = True, name: str = "tiny") -> Architecture:
    """A network that runs in microseconds: 8x8 grey images, 5 classes."""
    return Architecture(
        name=name,
        input_shape=Shape(8, 8, 1),
        classes=5,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, 1, 16, pool=2),
            Stage("conv2", Kind.BINARY_CONV, 16, 8, step=1),
        ),
        cloud=(
            Stage("conv3", Kind.BINARY_CONV, 8, 16, pool=2, profile="linear"),
            Stage("classify", Kind.BINARY_LINEAR, 16, 5),
        ),
        device_levels=(0.25, 0.5, 1.0),
        cloud_levels=(0.5, 1.0),
        exit_head=exit_head,
    )


def tiny_bundle(seed: int = 0, exit_head: bool = True, curve: bool = True) -> Bundle:
    """A bundle of the small network; another seed is another version."""
    bundle = random_bundle(tiny_architecture(exit_head), seed)
    exits = {"temperature": [1.0] * 3, "threshold": [0.9] * 3, "curve": [CURVE] * 3}
    extra = {"exit": exits} if exit_head and curve else {}
    accuracy = ((0.9, 0.95), (0.92, 0.96), (0.93, 0.97))
    metadata = replace(bundle.metadata, accuracy=accuracy, extra=extra)
    return make_bundle(metadata, bundle.tensors)


class Cloud(split_pb2_grpc.SplitInferenceServicer):
    """Serves ``bundle``; what ``respond`` returns for a request replaces the right answer."""

    def __init__(self, bundle: Bundle, respond: Respond | None = None) -> None:
        self.bundle = bundle
        self.respond = respond
        self.seen: list[Request] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.streams = 0

    async def Infer(self, request: pb.InferRequest, context: Any) -> pb.InferResponse:  # noqa: N802
        return response_to_message(self.answer(request_from_message(request)))

    async def InferStream(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.InferRequest], context: Any
    ) -> AsyncIterator[pb.InferResponse]:
        self.streams += 1
        self.metadata.append(dict(context.invocation_metadata() or ()))
        model, version = "", ""
        async for message in request_iterator:
            if message.model or message.version:
                model, version = message.model, message.version
            request = request_from_message(message)._replace(model=model, version=version)
            self.seen.append(request)
            response = await self.respond(request) if self.respond else None
            yield response_to_message(response or self.answer(request))

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:  # noqa: N802
        return model_to_message(self.bundle)

    async def GetDevicePart(  # noqa: N802
        self, request: pb.GetDevicePartRequest, context: Any
    ) -> AsyncIterator[pb.GetDevicePartResponse]:
        data = serialise(self.bundle, DEVICE_GROUPS)
        yield pb.GetDevicePartResponse(
            version=self.bundle.metadata.version,
            total_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            chunk=data[request.offset :],
        )

    def answer(self, request: Request) -> Response:
        """What a server says: the network's answer, or that it has another version."""
        version = self.bundle.metadata.version
        if not version.startswith(request.version):
            code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
            return Response(request.id, failure=Failure(code, f"this server has {version}"))
        features = FeatureCodec(self.bundle).decode(request.frame)
        widest = len(self.bundle.architecture.cloud_levels) - 1
        logits = CloudHalf(self.bundle).run(features, request.frame.level, widest)
        answers = tuple(Answer(int(label)) for label in logits.argmax(axis=1))
        looks, more = request.looks, None
        if looks is not None and not looks.earlier:
            more = wanted(logits, looks.next_level, looks.ask_below or 0)
        return Response(request.id, answers, widest, more=more)


@asynccontextmanager
async def serve(
    servicer: split_pb2_grpc.SplitInferenceServicer | None, port: int = 0
) -> AsyncIterator[str]:
    """The address of a server that runs while the block does; None serves nothing at all."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    if servicer is not None:
        split_pb2_grpc.add_SplitInferenceServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def serve_raw(respond: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """A server whose inference stream answers bytes with bytes."""

    async def stream(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield respond(request)

    handlers: dict[str, Any] = {"InferStream": grpc.stream_stream_rpc_method_handler(stream)}
    server = grpc.aio.server()
    name = pb.DESCRIPTOR.services_by_name["SplitInference"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def images(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise for the small network: (count, 8, 8, 1)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


async def until(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait until ``condition`` holds; ``TimeoutError`` if it never does."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def labels(bundle: Bundle, sent: Sequence[Request]) -> list[int]:
    """The right answers to ``sent``."""
    cloud = Cloud(bundle)
    return [answer.label for request in sent for answer in cloud.answer(request).answers]
