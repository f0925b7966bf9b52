"""``python -m tests.benchmarks.message_echo``: answers taper's messages without any work.

The serving benchmark compares our server with it: the generated code of ``taper.split.v1`` on
grpc.aio, with ``--threads`` on gRPC's thread pool, or with ``--uvloop`` on grpc.aio over uvloop.
Every request is answered with its id and a fixed label.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import uvloop

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc

THREADS = 80  # a stream occupies a thread as long as it is open


def answer(request: pb.InferRequest) -> pb.InferResponse:
    """Make a response like ours, with as many results as the request has samples."""
    count = request.samples or 1
    return pb.InferResponse(id=request.id, cloud_level=3, results=[pb.Result(label=7)] * count)


class AsyncEcho(split_pb2_grpc.SplitInferenceServicer):
    """The server on grpc.aio."""

    async def Infer(  # noqa: N802
        self, request: pb.InferRequest, context: Any
    ) -> pb.InferResponse:
        return answer(request)

    async def InferStream(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.InferRequest], context: Any
    ) -> AsyncIterator[pb.InferResponse]:
        async for request in request_iterator:
            yield answer(request)


class ThreadEcho(split_pb2_grpc.SplitInferenceServicer):
    """The server on the thread pool."""

    def Infer(self, request: pb.InferRequest, context: Any) -> pb.InferResponse:  # noqa: N802
        return answer(request)

    def InferStream(  # noqa: N802
        self, request_iterator: Iterator[pb.InferRequest], context: Any
    ) -> Iterator[pb.InferResponse]:
        return map(answer, request_iterator)


def told(port: int) -> None:
    """Print where the server listens."""
    sys.stdout.write(f"listening on 127.0.0.1:{port}\n")
    sys.stdout.flush()


async def serve_async() -> None:
    """Serve on a free port until the process is ended."""
    server = grpc.aio.server()
    split_pb2_grpc.add_SplitInferenceServicer_to_server(
        AsyncEcho(),  # type: ignore[abstract]
        server,
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    told(port)
    await server.wait_for_termination()


def serve_threads() -> None:
    """Serve on a free port until the process is ended."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    split_pb2_grpc.add_SplitInferenceServicer_to_server(
        ThreadEcho(),  # type: ignore[abstract]
        server,
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    told(port)
    server.wait_for_termination()


if __name__ == "__main__":
    if "--threads" in sys.argv:
        serve_threads()
    elif "--uvloop" in sys.argv:
        uvloop.run(serve_async())
    else:
        asyncio.run(serve_async())
