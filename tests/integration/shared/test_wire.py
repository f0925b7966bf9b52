"""What travels: bytes counted on the socket, and tables that are trained on real bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cloud.training.split.codec_tables import codec_tensors, with_codec
from cloud.training.split.context import ContextSettings
from shared.model.bundle import Bundle
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from tests.benchmarks.curves import Point, bytes_at
from tests.benchmarks.traffic import messages_of, stream, unary
from tests.support.processes import start_server

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
LEVEL = 2


async def test_every_byte_on_the_socket_is_counted(bundle: Bundle, digits: Digits) -> None:
    features = DeviceHalf(bundle).run(digits[0], LEVEL)
    right = tuple(CloudHalf(bundle).run(features, LEVEL, 3).argmax(axis=1).tolist())
    with start_server("--model", bundle.metadata.name, "--cloud-fraction", "1") as server:
        single = messages_of(bundle, features, LEVEL, 1, named=False)
        batches = messages_of(bundle, features, LEVEL, 20, named=False)
        calls = await unary(server.address, messages_of(bundle, features, LEVEL, 1, True), 1)
        one = await stream(server.address, single, 1)
        many = await stream(server.address, batches, 20)
    assert calls.labels == one.labels == many.labels == right
    sent = sum(len(message.SerializeToString()) for message in single) / len(features)
    assert sent + 14 < one.up < calls.up  # 9 bytes of HTTP/2 and 5 of gRPC frame every message
    assert many.total < 45 < one.total < 140 < calls.total


def test_new_tables_for_an_old_bundle(bundle: Bundle, digits: Digits) -> None:
    settings = ContextSettings(hidden=8, steps=150, passes=100)
    made = with_codec(bundle, codec_tensors(bundle, digits[0][:150], settings))
    assert made.metadata.version != bundle.metadata.version
    network = {n for n in bundle.tensors if not n.startswith("codec.")}
    assert all(np.array_equal(made.tensors[n], bundle.tensors[n]) for n in network)
    features = DeviceHalf(made).run(digits[0][150:], LEVEL)
    codec = FeatureCodec(made)
    frames = [codec.encode(row[None], LEVEL) for row in features]
    assert {frame.encoding for frame in frames} == {Encoding.CONTEXT}
    assert np.mean([len(frame.payload) for frame in frames]) < 0.5 * features.shape[1]
    assert all(
        np.array_equal(codec.decode(frame)[0], row)
        for frame, row in zip(frames, features, strict=True)
    )


def test_bytes_between_two_measured_points() -> None:
    points = [Point("a", 10, 0.6), Point("b", 20, 0.8)]
    assert bytes_at(points, 0.5) == 10
    assert bytes_at(points, 0.7) == pytest.approx(15)
    assert bytes_at(points, 0.9) == float("inf")
