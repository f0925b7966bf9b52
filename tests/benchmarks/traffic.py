"""Counts bytes on the socket of real requests, through a relay to a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import numpy.typing as npt

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.model.bundle import Bundle
from shared.protocol.codec import FeatureCodec
from shared.protocol.messages import (
    SHORTEST_VERSION_PREFIX,
    Request,
    request_to_message,
    response_from_message,
)
from tests.support.relay import counting_relay


@dataclass(frozen=True)
class Traffic:
    """Bytes per sample of one way to send, including headers and connection; and the labels."""

    up: float
    down: float
    labels: tuple[int, ...]

    @property
    def total(self) -> float:
        """Return the bytes in both directions."""
        return self.up + self.down


def messages_of(
    bundle: Bundle, features: npt.NDArray[np.uint8], level: int, samples: int, named: bool
) -> list[pb.InferRequest]:
    """Make requests of ``samples`` samples each, as a device sends them.

    In a stream (``named`` is false) only the first one names the model and its version.
    """
    codec = FeatureCodec(bundle)
    prefix = bundle.metadata.version[:SHORTEST_VERSION_PREFIX]
    made = []
    for number, start in enumerate(range(0, len(features), samples)):
        whole = named or start == 0
        request = Request(
            id=number + 1,
            model=bundle.metadata.name if whole else "",
            version=prefix if whole else "",
            frame=codec.encode(features[start : start + samples], level),
        )
        made.append(request_to_message(request))
    return made


async def unary(server: str, messages: Sequence[pb.InferRequest], samples: int) -> Traffic:
    """Send each message in a call, one after the other, on one connection."""
    labels: list[int] = []
    async with counting_relay(server) as relay:
        async with grpc.aio.insecure_channel(relay.address) as channel:
            stub = split_pb2_grpc.SplitInferenceStub(channel)
            for message in messages:
                labels += _labels(await stub.Infer(message))
        count = len(messages) * samples
        return Traffic(relay.up / count, relay.down / count, tuple(labels))


async def stream(server: str, messages: Sequence[pb.InferRequest], samples: int) -> Traffic:
    """Send the messages on one stream, each after the answer to the one before."""
    labels: list[int] = []
    answered = asyncio.Event()
    answered.set()

    async def one_by_one() -> AsyncIterator[pb.InferRequest]:
        for message in messages:
            await answered.wait()
            answered.clear()
            yield message

    async with counting_relay(server) as relay:
        async with grpc.aio.insecure_channel(relay.address) as channel:
            stub = split_pb2_grpc.SplitInferenceStub(channel)
            async for message in stub.InferStream(one_by_one()):
                labels += _labels(message)
                answered.set()
        count = len(messages) * samples
        return Traffic(relay.up / count, relay.down / count, tuple(labels))


def _labels(message: pb.InferResponse) -> list[int]:
    response = response_from_message(message)
    if response.failure is not None:
        raise RuntimeError(f"refused: {response.failure.message}")
    return [answer.label for answer in response.answers]
