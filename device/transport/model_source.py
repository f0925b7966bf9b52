"""Fetch descriptions and device parts of models from one server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc

from device.transport.channel import Security, open_channel
from device.transport.connect import connect
from device.transport.stream import REFUSED_TOKEN
from protos.split.v1 import split_pb2_grpc
from shared.errors import (
    InvalidRequestError,
    LinkError,
    RequestError,
    UnauthenticatedError,
    UnknownModelError,
)
from shared.protocol.messages import (
    ModelInfo,
    PartChunk,
    model_from_message,
    model_request,
    part_from_message,
    part_request,
)

CONNECT_S = 5.0
CALL_S = 30.0


class ModelSource:
    """Models of the server behind ``channel``.

    Methods raise ``LinkError`` if the server cannot be reached, ``RequestError`` if it refuses.
    """

    def __init__(self, channel: grpc.aio.Channel, address: str, security: Security) -> None:
        self._stub = split_pb2_grpc.SplitInferenceStub(channel)
        self._metadata = security.metadata or None
        self._address = address

    async def describe(self, name: str) -> ModelInfo:
        """Return the description of a model; an empty ``name`` means the server's default."""
        with _translated(self._address):
            message = await self._stub.GetModel(
                model_request(name), timeout=CALL_S, metadata=self._metadata
            )
        return model_from_message(message)

    async def part(self, name: str, version: str, offset: int) -> AsyncIterator[PartChunk]:
        """Yield the device's part of a model from byte ``offset`` on, in chunks.

        ``InvalidRequestError`` if it has fewer bytes.
        """
        request = part_request(name, version, offset)
        with _translated(self._address):
            call = self._stub.GetDevicePart(request, timeout=CALL_S, metadata=self._metadata)
            async for message in call:
                yield part_from_message(message)


@asynccontextmanager
async def model_source(address: str, security: Security) -> AsyncIterator[ModelSource]:
    """Connect to the server at ``address`` while the block runs; ``LinkError``."""
    channel = open_channel(address, security)
    try:
        await connect(channel, address, security, CONNECT_S)
        yield ModelSource(channel, address, security)
    finally:
        await channel.close()


@contextlib.contextmanager
def _translated(address: str) -> Iterator[None]:
    """Convert gRPC's errors to ours while the block runs."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _error_of(error, address) from None


def _error_of(error: grpc.aio.AioRpcError, address: str) -> LinkError | RequestError:
    text = f"server {address}: {error.details() or error.code().name}"
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return UnknownModelError(text)
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequestError(text)
    if error.code() in REFUSED_TOKEN:
        return UnauthenticatedError(text)
    return LinkError(text)
