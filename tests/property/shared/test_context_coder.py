"""Laws of the context coder: what goes in comes out, and both implementations write the same."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.model.bits import pack, unused_bits_are_zero
from shared.packed import kernels
from shared.protocol.context_coder import ReferenceCoder, context_coder
from shared.protocol.context_model import PROBABILITIES, ContextTables
from shared.protocol.range_coder import RangeDecoder, RangeEncoder
from tests.support.clouds import tiny_architecture
from tests.support.context_models import random_context_model

ARCHITECTURE = tiny_architecture()  # sends 4x4 maps of 2, 4 or 8 channels
LEVELS = st.integers(0, 2)
SEEDS = st.integers(0, 2**32 - 1)
ENOUGH = 10_000

needs_native = pytest.mark.skipif(bool(kernels.missing_reason()), reason="not compiled")


def some(tables: ContextTables, count: int, seed: int) -> npt.NDArray[np.uint8]:
    """Random packed samples, of one density."""
    rng = np.random.default_rng(seed)
    size = tables.height * tables.width * tables.channels
    return pack(rng.random((count, size)) < rng.random())


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 65535)), max_size=200))
def test_the_range_coder_gives_back_its_bits(coded: list[tuple[bool, int]]) -> None:
    encoder = RangeEncoder()
    for bit, probability in coded:
        encoder.put(bit, probability)
    payload = encoder.finish()
    decoder = RangeDecoder(payload)
    assert [decoder.get(probability) for _, probability in coded] == [bit for bit, _ in coded]
    assert decoder.finished()
    cost_bits = sum(-math.log2(p / 65536 if bit else 1 - p / 65536) for bit, p in coded)
    assert 8 * len(payload) <= cost_bits * 1.01 + 9


def test_no_probability_depends_on_the_last_digits_of_exp() -> None:
    exact = [65536 / (1 + math.exp((511.5 - i) / 64)) for i in range(1024)]
    assert min(abs(value % 1 - 0.5) for value in exact) > 1e-6
    assert np.all(np.diff(PROBABILITIES.astype(int)) >= 0)
    assert 0 < PROBABILITIES[0] < PROBABILITIES[-1] < 65536


@needs_native
@settings(deadline=None)
@given(level=LEVELS, count=st.integers(1, 20), hidden=st.sampled_from(range(8, 65, 8)), seed=SEEDS)
def test_compiled_round_trip(level: int, count: int, hidden: int, seed: int) -> None:
    tables = random_context_model(ARCHITECTURE, seed, hidden).tables(level)
    coder = context_coder(tables)
    features = some(tables, count, seed)
    payload = coder.encode(features, ENOUGH)
    assert payload is not None
    output = np.full_like(features, 255)
    assert coder.decode(payload, output)
    assert np.array_equal(output, features)


@needs_native
@settings(deadline=None, max_examples=60)
@given(level=LEVELS, count=st.integers(1, 3), hidden=st.sampled_from([8, 24, 64]), seed=SEEDS)
def test_compiled_and_reference_write_the_same(
    level: int, count: int, hidden: int, seed: int
) -> None:
    tables = random_context_model(ARCHITECTURE, seed, hidden).tables(level)
    features = some(tables, count, seed)
    payload = context_coder(tables).encode(features, ENOUGH)
    assert payload is not None
    assert ReferenceCoder(tables).encode(features, ENOUGH) == payload
    output = np.full_like(features, 255)
    assert ReferenceCoder(tables).decode(payload, output)
    assert np.array_equal(output, features)


@needs_native
@settings(deadline=None, max_examples=20)
@given(level=LEVELS, parts=st.lists(st.integers(0, 5), min_size=1, max_size=5), seed=SEEDS)
def test_decoding_in_parts_gives_the_same_samples(level: int, parts: list[int], seed: int) -> None:
    tables = random_context_model(ARCHITECTURE, seed).tables(level)
    features = some(tables, sum(parts), seed)
    for coder in (context_coder(tables), ReferenceCoder(tables)):
        payload = coder.encode(features, ENOUGH)
        assert payload is not None
        for sent in (payload, payload + b"\x80\x01", payload[:-3]):
            whole = np.full_like(features, 255)
            accepted = coder.decode(sent, whole)
            decoder = coder.decoder(sent)
            outputs = [np.full((count, tables.sample_bytes), 255, np.uint8) for count in parts]
            complete = [decoder.next(output) for output in outputs]
            assert (all(complete) and decoder.finished()) == accepted
            if accepted:
                assert np.array_equal(np.concatenate(outputs), whole)
            if sent == payload:
                assert accepted
                assert np.array_equal(whole, features)


@needs_native
@settings(deadline=None, max_examples=300)
@given(level=LEVELS, count=st.integers(1, 3), seed=SEEDS, payload=st.binary(max_size=60))
def test_any_payload_is_one_of_the_encoder_or_refused(
    level: int, count: int, seed: int, payload: bytes
) -> None:
    tables = random_context_model(ARCHITECTURE, seed % 7).tables(level)
    outputs = [np.zeros((count, tables.sample_bytes), np.uint8) for _ in range(2)]
    compiled, reference = context_coder(tables), ReferenceCoder(tables)
    accepted = compiled.decode(payload, outputs[0])
    assert reference.decode(payload, outputs[1]) == accepted
    if accepted:
        size = tables.height * tables.width * tables.channels
        assert unused_bits_are_zero(outputs[0], size)
        assert compiled.encode(outputs[0], ENOUGH) == payload


@needs_native
@given(level=LEVELS, count=st.integers(1, 4), seed=SEEDS, cut=st.integers(1, 30))
def test_a_cut_or_longer_payload_is_refused_or_means_other_bits(
    level: int, count: int, seed: int, cut: int
) -> None:
    tables = random_context_model(ARCHITECTURE, seed).tables(level)
    coder = context_coder(tables)
    features = some(tables, count, seed)
    payload = coder.encode(features, ENOUGH)
    assert payload is not None
    output = np.empty_like(features)
    for wrong in (payload[:-cut], payload + bytes(cut), payload + b"\x80" * cut):
        if wrong != payload and coder.decode(wrong, output):
            assert not np.array_equal(output, features)


@given(level=LEVELS, seed=SEEDS)
def test_a_limit_is_kept(level: int, seed: int) -> None:
    tables = random_context_model(ARCHITECTURE, seed).tables(level)
    features = some(tables, 2, seed)
    for coder in (context_coder(tables), ReferenceCoder(tables)):
        payload = coder.encode(features, ENOUGH)
        assert payload is not None
        assert coder.encode(features, len(payload)) is None
        assert coder.encode(features, len(payload) + 1) == payload
