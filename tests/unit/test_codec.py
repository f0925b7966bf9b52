from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import zstandard

from shared.bundle import Bundle
from shared.codec import LARGEST_BATCH, Encoding, FeatureCodec, Frame
from shared.errors import InvalidRequestError
from shared.packed import DeviceHalf

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def codec(bundle: Bundle) -> FeatureCodec:
    return FeatureCodec(bundle)


@pytest.mark.parametrize("level", range(6))
@pytest.mark.parametrize("count", [1, 3, 200])
def test_real_bits_come_back(
    bundle: Bundle, codec: FeatureCodec, digits: Digits, level: int, count: int
) -> None:
    features = DeviceHalf(bundle).run(digits[0][:count], level)
    frame = codec.encode(features, level)
    assert np.array_equal(codec.decode(frame), features)
    assert len(frame.payload) <= features.nbytes


def test_a_dictionary_pays_on_real_bits(
    bundle: Bundle, codec: FeatureCodec, digits: Digits
) -> None:
    features = DeviceHalf(bundle).run(digits[0], 5)
    sizes = [len(codec.encode(row[None], 5).payload) for row in features]
    plain = [len(zstandard.ZstdCompressor(level=19).compress(row.tobytes())) for row in features]
    assert np.mean(sizes) < 0.8 * np.mean(plain)


def test_what_does_not_compress_goes_raw(bundle: Bundle, codec: FeatureCodec) -> None:
    size = bundle.architecture.sent_shape(5).packed_bytes
    noise = np.random.default_rng(1).integers(0, 256, (1, size), dtype=np.uint8)
    frame = codec.encode(noise, 5)
    assert frame.encoding is Encoding.RAW
    assert np.array_equal(codec.decode(frame), noise)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"level": 6}, r"level: 6 .*0 \(0.125\)"),
        ({"level": -1}, "level"),
        ({"samples": 0}, "samples"),
        ({"samples": LARGEST_BATCH + 1}, "samples"),
        ({"payload": b""}, "payload"),
        ({"payload": bytes(73)}, "payload: holds 73 bytes"),
        ({"payload": b"\xff" * 74}, "unused bits"),
        ({"encoding": 9}, "encoding: 9"),
        ({"encoding": Encoding.ZSTD_DICT, "payload": b"\0" * 20}, "payload"),
        ({"encoding": Encoding.ZSTD_DICT, "payload": b"\xff" * 20}, "payload"),
    ],
)
def test_refused_frames(codec: FeatureCodec, change: dict[str, object], part: str) -> None:
    good = Frame(level=2, samples=1, encoding=Encoding.RAW, payload=bytes(74))
    codec.decode(good)
    with pytest.raises(InvalidRequestError, match=part):
        codec.decode(replace(good, **change))  # type: ignore[arg-type]
