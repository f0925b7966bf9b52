from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidRequestError
from shared.fractions import channels
from shared.model.bits import pack, unpack, unused_bits_are_zero
from shared.model.bundle import Bundle
from shared.protocol.codec import Encoding, FeatureCodec, Frame


@given(st.lists(st.booleans(), max_size=70))
def test_unpack_undoes_pack(bits: list[bool]) -> None:
    packed = pack(bits)
    assert unpack(packed, len(bits)).tolist() == bits
    assert len(bits) == 0 or unused_bits_are_zero(packed, len(bits))


@given(st.floats(1e-6, 1), st.floats(1e-6, 1), st.integers(1, 600), st.integers(1, 40))
def test_channels_grow_with_the_fraction(a: float, b: float, total: int, step: int) -> None:
    low, high = (channels(fraction, total, step) for fraction in sorted((a, b)))
    assert 1 <= low <= high <= total
    assert low == total or low % step == 0


@settings(deadline=None)
@given(level=st.integers(0, 5), count=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_decoding_gives_back_what_was_encoded(
    bundle: Bundle, level: int, count: int, seed: int
) -> None:
    codec = FeatureCodec(bundle)
    rng = np.random.default_rng(seed)
    size = bundle.architecture.sent_shape(level).size
    features = pack(rng.random((count, size)) < rng.random())
    assert np.array_equal(codec.decode(codec.encode(features, level)), features)


@settings(deadline=None)
@given(
    level=st.integers(-1, 9),
    samples=st.integers(-1, 3),
    encoding=st.sampled_from([*Encoding, 0, 7]),
    payload=st.binary(max_size=300),
)
def test_any_frame_is_decoded_or_refused(
    bundle: Bundle, level: int, samples: int, encoding: int, payload: bytes
) -> None:
    frame = Frame(level, samples, encoding, payload)
    try:
        features = FeatureCodec(bundle).decode(frame)
    except InvalidRequestError:
        return
    shape = bundle.architecture.sent_shape(level)
    assert features.shape == (samples, shape.packed_bytes)
