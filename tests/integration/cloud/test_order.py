"""A server may answer a stream in any order: the client matches by id."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc

from device.transport.link import Link, LinkSettings
from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.protocol.codec import Encoding, Frame

BATCH = 25
SAMPLES = 1000


class ShufflingServicer(split_pb2_grpc.SplitInferenceServicer):
    """Answers every 25 requests in a random order with the label that their payload holds."""

    async def InferStream(  # noqa: N802 - the name in the protocol
        self,
        request_iterator: AsyncIterator[pb.InferRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.InferResponse]:
        generator = random.Random(2)
        waiting: list[pb.InferRequest] = []
        async for request in request_iterator:
            waiting.append(request)
            if len(waiting) == BATCH:
                generator.shuffle(waiting)
                for one in waiting:
                    label = int.from_bytes(one.payload, "little")
                    yield pb.InferResponse(id=one.id, results=[pb.Result(label=label)])
                waiting.clear()


async def test_answers_in_any_order_find_their_requests() -> None:
    server = grpc.aio.server()
    split_pb2_grpc.add_SplitInferenceServicer_to_server(
        ShufflingServicer(),  # type: ignore[abstract]  # the other calls are not made
        server,
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Link(LinkSettings((f"127.0.0.1:{port}",))) as link:
            frames = [
                Frame(0, 1, Encoding.RAW, number.to_bytes(2, "little")) for number in range(SAMPLES)
            ]
            responses = await asyncio.gather(*(link.infer(frame) for frame in frames))
        assert [response.answers[0].label for response in responses] == list(range(SAMPLES))
    finally:
        await server.stop(None)
