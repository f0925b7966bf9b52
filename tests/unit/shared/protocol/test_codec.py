from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zstandard

from shared.errors import BundleError, InvalidRequestError
from shared.model.bundle import Bundle, make_bundle
from shared.packed import DeviceHalf, kernels
from shared.protocol.codec import LARGEST_BATCH, Encoding, FeatureCodec, Frame

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


def test_tables_pay_on_real_bits(bundle: Bundle, codec: FeatureCodec, digits: Digits) -> None:
    features = DeviceHalf(bundle).run(digits[0], 5)
    plain = [len(zstandard.ZstdCompressor(level=19).compress(row.tobytes())) for row in features]
    sizes = {
        encoding: [len(codec.encode_as(row[None], 5, encoding).payload) for row in features]
        for encoding in (Encoding.ZSTD_DICT, Encoding.CONTEXT)
    }
    assert np.mean(sizes[Encoding.ZSTD_DICT]) < 0.8 * np.mean(plain)
    assert np.mean(sizes[Encoding.CONTEXT]) < 0.5 * np.mean(sizes[Encoding.ZSTD_DICT])
    sent = [codec.encode(row[None], 5) for row in features]
    smallest = np.minimum(sizes[Encoding.ZSTD_DICT], sizes[Encoding.CONTEXT])
    assert [len(frame.payload) for frame in sent] == smallest.tolist()


@pytest.mark.parametrize("encoding", list(Encoding))
def test_every_encoding_gives_the_bits_back(
    bundle: Bundle, codec: FeatureCodec, digits: Digits, encoding: Encoding
) -> None:
    features = DeviceHalf(bundle).run(digits[0], 2)
    frame = codec.encode_as(features, 2, encoding)
    assert frame.encoding is encoding
    assert np.array_equal(codec.decode(frame), features)


def test_without_the_compiled_coder_the_same_frames(bundle: Bundle, digits: Digits) -> None:
    features = DeviceHalf(bundle).run(digits[0][:2], 2)
    frames = [FeatureCodec(bundle, kernel).encode(features, 2) for kernel in (None, kernels.NUMPY)]
    assert frames[0].encoding is Encoding.CONTEXT
    assert frames[0] == frames[1]
    assert np.array_equal(FeatureCodec(bundle, kernels.NUMPY).decode(frames[0]), features)


def test_a_bundle_without_tables_sends_raw_and_takes_no_other(
    bundle: Bundle, codec: FeatureCodec, digits: Digits
) -> None:
    network = {n: t for n, t in bundle.tensors.items() if not n.startswith("codec.")}
    old = FeatureCodec(make_bundle(bundle.metadata, network))
    features = DeviceHalf(bundle).run(digits[0][:3], 2)
    assert old.encode(features, 2).encoding is Encoding.RAW
    for encoding in (Encoding.ZSTD_DICT, Encoding.CONTEXT):
        with pytest.raises(InvalidRequestError, match="send RAW"):
            old.decode(codec.encode_as(features, 2, encoding))
        with pytest.raises(ValueError, match="no tables"):
            old.encode_as(features, 2, encoding)


@pytest.mark.parametrize(
    ("name", "spoil", "part"),
    [
        ("weight", lambda t: t[:-1], "weight is int8"),
        ("weight", lambda t: t[:, :-1], "weight is int8"),
        ("weight", lambda t: t.astype(np.int16), "weight is int16"),
        ("weight", lambda t: t[:, :0], "weight is int8"),
        ("bias", lambda t: t[:-1], "bias is int16"),
        ("bias", lambda t: t.astype(np.float32), "bias is float32"),
    ],
)
def test_a_wrong_context_model_is_refused(
    bundle: Bundle, name: str, spoil: Callable[[Any], Any], part: str
) -> None:
    key = f"codec.context.{name}"
    wrong = make_bundle(bundle.metadata, {**bundle.tensors, key: spoil(bundle.tensors[key])})
    with pytest.raises(BundleError, match=part):
        FeatureCodec(wrong)


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
        ({"encoding": Encoding.CONTEXT, "payload": b""}, "payload: is not what the context"),
        ({"encoding": Encoding.CONTEXT, "payload": b"\xff" * 300}, "payload: is not what"),
        ({"encoding": Encoding.CONTEXT, "payload": bytes(500)}, "payload: is not what"),
    ],
)
def test_a_wrong_field_of_a_frame_is_refused(
    codec: FeatureCodec, change: dict[str, object], part: str
) -> None:
    good = Frame(level=2, samples=1, encoding=Encoding.RAW, payload=bytes(74))
    codec.decode(good)
    with pytest.raises(InvalidRequestError, match=part):
        codec.decode(good._replace(**change))  # type: ignore[arg-type]
