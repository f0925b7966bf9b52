"""What a real server refuses: the right status, a message that helps, and it goes on serving."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import zstandard

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.model.bundle import DEVICE_GROUPS, Bundle, read_bundle
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec
from tests.support.processes import Server

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
Change = Callable[[pb.InferRequest], None]
Stream = grpc.aio.StreamStreamCall[pb.InferRequest, pb.InferResponse]
STATUS = grpc.StatusCode
MODEL = "mnist-binary-paper"


def valid(bundle: Bundle, digits: Digits, count: int = 1, level: int = 2) -> pb.InferRequest:
    """A request for ``count`` digits that is in order."""
    features = DeviceHalf(bundle).run(digits[0][:count], level)
    frame = FeatureCodec(bundle).encode(features, level)
    return pb.InferRequest(
        id=7,
        model=MODEL,
        level=level,
        encoding=pb.Encoding.ValueType(frame.encoding),
        samples=count,
        payload=frame.payload,
    )


def bomb(request: pb.InferRequest) -> None:
    """A small zstd frame that expands to a gigabyte."""
    parameters = zstandard.ZstdCompressionParameters(
        format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=0
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    block = bytes(2**20)
    parts = [compressor.compress(block) for _ in range(1024)]
    request.payload = b"".join(parts) + compressor.flush()
    request.encoding = pb.ENCODING_ZSTD_DICT


def set_field(name: str, value: object) -> Change:
    return lambda request: setattr(request, name, value)


def raw(payload: bytes) -> Change:
    def change(request: pb.InferRequest) -> None:
        request.encoding = pb.ENCODING_RAW
        request.payload = payload

    return change


REFUSALS: dict[str, tuple[Change, grpc.StatusCode, str]] = {
    "unknown model": (set_field("model", "nothing"), STATUS.NOT_FOUND, MODEL),
    "other version": (set_field("version", "0" * 16), STATUS.FAILED_PRECONDITION, "version"),
    "short version": (set_field("version", "ab"), STATUS.INVALID_ARGUMENT, "version"),
    "unknown level": (set_field("level", 6), STATUS.INVALID_ARGUMENT, "level"),
    "huge level": (set_field("level", 2**32 - 1), STATUS.INVALID_ARGUMENT, "level"),
    "unknown cloud level": (set_field("cloud_level", 4), STATUS.INVALID_ARGUMENT, "cloud_level"),
    "no encoding": (set_field("encoding", 0), STATUS.INVALID_ARGUMENT, "encoding"),
    "unknown encoding": (set_field("encoding", 99), STATUS.INVALID_ARGUMENT, "encoding"),
    "too many samples": (set_field("samples", 2**31), STATUS.INVALID_ARGUMENT, "samples"),
    "empty payload": (raw(b""), STATUS.INVALID_ARGUMENT, "payload"),
    "one byte missing": (raw(bytes(73)), STATUS.INVALID_ARGUMENT, "payload"),
    "one byte more": (raw(bytes(75)), STATUS.INVALID_ARGUMENT, "payload"),
    "unused bits set": (raw(b"\xff" * 74), STATUS.INVALID_ARGUMENT, "payload"),
    "garbage": (set_field("payload", bytes(range(40))), STATUS.INVALID_ARGUMENT, "payload"),
    "expands to a gigabyte": (bomb, STATUS.INVALID_ARGUMENT, "payload"),
}


async def read(call: Stream) -> pb.InferResponse:
    """The next response of a stream."""
    response = await call.read()
    assert isinstance(response, pb.InferResponse)
    return response


@pytest.fixture
async def stub(server: Server) -> AsyncIterator[split_pb2_grpc.SplitInferenceAsyncStub]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield split_pb2_grpc.SplitInferenceStub(channel)


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_wrong_call_is_refused_with_its_field(
    stub: split_pb2_grpc.SplitInferenceAsyncStub, bundle: Bundle, digits: Digits, name: str
) -> None:
    change, status, part = REFUSALS[name]
    request = valid(bundle, digits)
    request.encoding = pb.ENCODING_ZSTD_DICT
    change(request)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Infer(request)
    assert refused.value.code() is status
    assert part in (refused.value.details() or "")
    answer = await stub.Infer(valid(bundle, digits))
    assert len(answer.results) == 1


async def test_stream_goes_on_after_every_refusal(
    stub: split_pb2_grpc.SplitInferenceAsyncStub, bundle: Bundle, digits: Digits
) -> None:
    call = stub.InferStream()
    await call.write(valid(bundle, digits))
    first = await read(call)
    for change, status, part in REFUSALS.values():
        request = valid(bundle, digits)
        request.encoding = pb.ENCODING_ZSTD_DICT
        change(request)
        await call.write(request)
        response = await read(call)
        assert response.failure.code == status.value[0]
        assert part in response.failure.message
        assert not response.results
        await call.write(valid(bundle, digits))
        assert (await read(call)).results == first.results
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_a_message_over_the_limit_is_refused(
    stub: split_pb2_grpc.SplitInferenceAsyncStub, bundle: Bundle, digits: Digits
) -> None:
    request = valid(bundle, digits)
    request.payload = bytes(5 * 2**20)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Infer(request)
    assert refused.value.code() is STATUS.RESOURCE_EXHAUSTED
    assert (await stub.Infer(valid(bundle, digits))).results


async def test_every_cloud_level_can_be_pinned(
    stub: split_pb2_grpc.SplitInferenceAsyncStub, bundle: Bundle, digits: Digits
) -> None:
    cloud = CloudHalf(bundle)
    for level in range(len(bundle.architecture.device_levels)):
        features = DeviceHalf(bundle).run(digits[0][:50], level)
        for cloud_level in range(len(bundle.architecture.cloud_levels)):
            request = valid(bundle, digits, 50, level)
            request.cloud_level = cloud_level
            request.top_k = 3
            response = await stub.Infer(request)
            expected = cloud.run(features, level, cloud_level).argmax(axis=1)
            assert [result.label for result in response.results] == expected.tolist()
            assert response.cloud_level == cloud_level
            for result in response.results:
                chances = [candidate.probability for candidate in result.candidates]
                assert result.candidates[0].label == result.label
                assert chances == sorted(chances, reverse=True)
                assert len(chances) == 3


async def test_names_of_the_first_message_hold_for_the_stream(
    stub: split_pb2_grpc.SplitInferenceAsyncStub, bundle: Bundle, digits: Digits
) -> None:
    call = stub.InferStream()
    first = valid(bundle, digits)
    first.version = "0" * 16
    await call.write(first)
    assert (await read(call)).failure.code == STATUS.FAILED_PRECONDITION.value[0]
    unnamed = valid(bundle, digits)
    unnamed.model = ""
    await call.write(unnamed)
    assert (await read(call)).failure.code == STATUS.FAILED_PRECONDITION.value[0]
    await call.done_writing()


async def test_ids_come_back_with_their_answers(
    stub: split_pb2_grpc.SplitInferenceAsyncStub, bundle: Bundle, digits: Digits
) -> None:
    ids = np.random.default_rng(3).permutation(200)
    expected = CloudHalf(bundle).run(DeviceHalf(bundle).run(digits[0], 2), 2, 3).argmax(axis=1)
    codec, half = FeatureCodec(bundle), DeviceHalf(bundle)
    call = stub.InferStream()
    for number in ids:
        request = valid(bundle, digits)
        frame = codec.encode(half.run(digits[0][number][None], 2), 2)
        request.id, request.payload, request.samples = int(number), frame.payload, 1
        request.encoding = pb.Encoding.ValueType(frame.encoding)
        await call.write(request)
    await call.done_writing()
    found = {}
    while (response := await call.read()) is not grpc.aio.EOF:
        assert isinstance(response, pb.InferResponse)
        found[response.id] = response.results[0].label
    assert found == {int(number): int(expected[number]) for number in ids}


async def test_get_model_describes_the_bundle(
    stub: split_pb2_grpc.SplitInferenceAsyncStub, bundle: Bundle
) -> None:
    model = await stub.GetModel(pb.GetModelRequest(model=MODEL))
    assert model.version == bundle.metadata.version
    assert tuple(model.device_levels) == pytest.approx(bundle.architecture.device_levels)
    assert len(model.accuracy) == len(bundle.architecture.device_levels)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.GetModel(pb.GetModelRequest(model="nothing"))
    assert refused.value.code() is STATUS.NOT_FOUND


async def test_device_part_runs_and_can_be_resumed(
    stub: split_pb2_grpc.SplitInferenceAsyncStub, bundle: Bundle, digits: Digits, tmp_path: Path
) -> None:
    chunks = [part async for part in stub.GetDevicePart(pb.GetDevicePartRequest(model=MODEL))]
    data = b"".join(part.chunk for part in chunks)
    assert len(data) == chunks[0].total_bytes
    assert hashlib.sha256(data).hexdigest() == chunks[0].sha256
    path = tmp_path / "device.safetensors"
    path.write_bytes(data)
    part = read_bundle(path, DEVICE_GROUPS)
    assert part.metadata.version == bundle.metadata.version
    assert not any(name.startswith("cloud.") for name in part.tensors)
    found = DeviceHalf(part).run(digits[0], 2)
    assert np.array_equal(found, DeviceHalf(bundle).run(digits[0], 2))
    request = pb.GetDevicePartRequest(model=MODEL, version=part.metadata.version, offset=1000)
    rest = b"".join([part.chunk async for part in stub.GetDevicePart(request)])
    assert rest == data[1000:]
    request.offset = len(data) + 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        _ = [part async for part in stub.GetDevicePart(request)]
    assert refused.value.code() is STATUS.INVALID_ARGUMENT
