"""The engine that answers from bytes to bytes says what protobuf and the reference say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.split.v1 import split_pb2 as pb
from shared.bundles import bundle_path
from shared.model.bits import pack
from shared.model.bundle import Bundle, read_bundle
from shared.packed import CloudHalf, DeviceHalf, kernels
from shared.protocol.codec import PAYLOAD_SLACK_BYTES, Encoding, FeatureCodec, Frame
from shared.protocol.looks import margins, wanted
from shared.protocol.messages import (
    Hints,
    Looks,
    More,
    Request,
    request_to_message,
    response_from_message,
    serialise_response,
)
from shared.protocol.responses import respond, to_response

pytestmark = pytest.mark.skipif(
    kernels.missing_reason() != "", reason="the compiled kernels are not built"
)
LEVEL, CLOUD_LEVEL = 2, 3
PLACES = st.sets(st.integers(0, 300)).map(lambda places: tuple(sorted(places)))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(bundle_path("mnist-binary"))


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Any:
    from shared.protocol.engine import engine_of

    made = engine_of(CloudHalf(bundle), FeatureCodec(bundle), bundle)
    assert made is not None
    made.set_most_samples([16] * 6)
    return made


def features(bundle: Bundle, count: int) -> Any:
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28, 1), np.uint8)
    return DeviceHalf(bundle).run(images, LEVEL)


def message(bundle: Bundle, count: int = 1, **fields: Any) -> pb.InferRequest:
    frame = FeatureCodec(bundle).encode(features(bundle, count), LEVEL)
    made = request_to_message(Request(7, "", "", frame))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@given(
    rows=st.integers(1, 9),
    classes=st.integers(1, 12),
    top_k=st.integers(0, 14),
    head=st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
    number=st.integers(0, 2**64 - 1),
    hints=st.none() | st.tuples(st.floats(0, 9, width=32), st.none() | st.integers(0, 5)),
    more=st.none() | st.builds(More, st.integers(0, 5), st.integers(0, 9), PLACES),
    seed=st.integers(0, 99),
)
def test_a_response_is_written_as_protobuf_writes_it(
    rows: int,
    classes: int,
    top_k: int,
    head: tuple[int, int, int],
    number: int,
    hints: tuple[float, int | None] | None,
    more: More | None,
    seed: int,
) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (rows, classes)).astype(np.float32)
    said = None if hints is None else Hints(*hints)
    expected = pb.InferResponse.FromString(
        serialise_response(to_response(number, top_k, logits, head, said, more))
    )
    found = pb.InferResponse.FromString(respond(number, top_k, logits, head, said, more))
    for one, other in zip(found.results, expected.results, strict=True):
        for mine, theirs in zip(one.candidates, other.candidates, strict=True):
            assert mine.label == theirs.label
            assert mine.probability == pytest.approx(theirs.probability, rel=1e-5)
            mine.probability = theirs.probability
    assert found == expected


@pytest.mark.parametrize("count", [1, 3, 16])
@pytest.mark.parametrize("encoding", ["RAW", "CONTEXT"])
@pytest.mark.parametrize("top_k", [0, 3])
def test_an_answer_is_that_of_the_network(
    engine: Any, bundle: Bundle, count: int, encoding: str, top_k: int
) -> None:
    asked = message(bundle, count, top_k=top_k)
    if encoding == "RAW":
        asked.encoding, asked.payload = pb.ENCODING_RAW, features(bundle, count).tobytes()
    found = engine.answer(asked.SerializeToString(), CLOUD_LEVEL, None, False)
    assert found is not None
    data, level, number, samples, names_model, names_version, decode_s, run_s, *looks = found
    assert not names_model
    assert not names_version
    assert (level, number, samples) == (LEVEL, asked.encoding, count)
    assert looks == [7, None, 0]
    assert decode_s > 0 < run_s
    logits = CloudHalf(bundle).run(features(bundle, count), LEVEL, CLOUD_LEVEL)
    answer = pb.InferResponse.FromString(data)
    assert answer.id == 7
    assert answer.cloud_level == CLOUD_LEVEL
    assert [one.label for one in answer.results] == logits.argmax(axis=1).tolist()
    assert all(len(one.candidates) == top_k for one in answer.results)
    assert not answer.HasField("hints")


@pytest.mark.parametrize("count", [1, 3, 16])
@pytest.mark.parametrize("share", [0, 1, 50, 100])
def test_another_look_is_wanted_where_the_margin_is_small(
    engine: Any, bundle: Bundle, count: int, share: int
) -> None:
    logits = CloudHalf(bundle).run(features(bundle, count), LEVEL, CLOUD_LEVEL)
    ask_below = int(np.percentile(margins(logits), share)) + (share == 100)
    frame = FeatureCodec(bundle).encode(features(bundle, count), LEVEL)
    asked = Request(7, "", "", frame, looks=Looks(0, 4, ask_below))
    found = engine.answer(request_to_message(asked).SerializeToString(), CLOUD_LEVEL, None, False)
    expected = wanted(logits, 4, ask_below)
    assert response_from_message(pb.InferResponse.FromString(found[0])).more == expected
    assert found[8:] == (7, 0, 0 if expected is None else len(expected.samples) or count)


def test_nobody_is_asked_twice_or_by_a_server_without_time(engine: Any, bundle: Bundle) -> None:
    frame = FeatureCodec(bundle).encode(features(bundle, 1), LEVEL)
    for looks, crowded in ((Looks(1, 0, 2**62), False), (Looks(0, 4, 2**62), True), (None, False)):
        asked = request_to_message(Request(7, "", "", frame, looks=looks)).SerializeToString()
        answer = pb.InferResponse.FromString(engine.answer(asked, CLOUD_LEVEL, 1.0, crowded)[0])
        assert answer.results
        assert not answer.HasField("more")


@pytest.mark.parametrize("next_level", [0, LEVEL, 6, 2**32 - 1])
def test_a_next_look_that_is_none_is_left_to_the_caller(
    engine: Any, bundle: Bundle, next_level: int
) -> None:
    frame = FeatureCodec(bundle).encode(features(bundle, 1), LEVEL)
    asked = request_to_message(Request(7, "", "", frame, looks=Looks(0, next_level)))
    assert engine.answer(asked.SerializeToString(), CLOUD_LEVEL, None, False) is None


def test_a_coded_payload_that_is_longer_than_allowed_is_left_to_the_caller(
    engine: Any, bundle: Bundle
) -> None:
    codec = FeatureCodec(bundle)
    sent = bundle.architecture.sent_shape(LEVEL)
    noise = pack(np.random.default_rng(1).random((16, sent.size)) < 0.5)  # no model foresees it
    for count in range(1, 17):
        frame = codec.encode_as(noise[:count], LEVEL, Encoding.CONTEXT)
        asked = request_to_message(Request(7, "", "", frame)).SerializeToString()
        allowed = len(frame.payload) <= count * sent.packed_bytes + PAYLOAD_SLACK_BYTES
        assert (engine.answer(asked, CLOUD_LEVEL, None, False) is not None) == allowed
    assert not allowed  # both cases came


def test_hints_hold_the_load_and_a_lower_level(engine: Any, bundle: Bundle) -> None:
    asked = message(bundle).SerializeToString()
    hints = pb.InferResponse.FromString(engine.answer(asked, 0, 0.75, True)[0]).hints
    assert (hints.load, hints.suggested_level) == (0.75, LEVEL - 1)
    hints = pb.InferResponse.FromString(engine.answer(asked, 0, 0.5, False)[0]).hints
    assert (hints.load, hints.HasField("suggested_level")) == (0.5, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "mnist-binary"},
        {"version": "version"},
        {"version": "VERSION"},
        {"samples": 0},
    ],
)
def test_names_of_its_own_model_are_answered(
    engine: Any, bundle: Bundle, fields: dict[str, Any]
) -> None:
    known = {"version": bundle.metadata.version[:9], "VERSION": bundle.metadata.version.upper()}
    given_fields = {name: known.get(value, value) for name, value in fields.items()}
    asked = message(bundle, **given_fields).SerializeToString()
    assert engine.answer(asked, CLOUD_LEVEL, None, False) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "other"},
        {"model": "mnist-binäry"},
        {"version": "0" * 16},
        {"version": "abc"},
        {"level": 6},
        {"level": 2**32 - 1},
        {"encoding": 0},
        {"encoding": 2},
        {"encoding": -1},
        {"samples": 2},
        {"samples": 17},
        {"samples": 2**32 - 1},
        {"payload": b""},
        {"payload": bytes(60)},
        {"cloud_level": 0},
    ],
)
def test_whatever_is_wrong_or_unusual_is_left_to_the_caller(
    engine: Any, bundle: Bundle, fields: dict[str, Any]
) -> None:
    asked = message(bundle, **fields).SerializeToString()
    assert engine.answer(asked, CLOUD_LEVEL, None, False) is None


def test_set_bits_after_a_sample_are_left_to_the_caller(engine: Any, bundle: Bundle) -> None:
    shape = bundle.architecture.sent_shape(LEVEL)
    raw = bytearray(features(bundle, 1).tobytes())
    raw[-1] |= 0x80
    asked = message(bundle, encoding=pb.ENCODING_RAW, payload=bytes(raw))
    answered = engine.answer(asked.SerializeToString(), CLOUD_LEVEL, None, False)
    assert (answered is None) == (shape.size % 8 != 0)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_answered_or_left(engine: Any, data: bytes) -> None:
    assert engine.answer(data, CLOUD_LEVEL, None, False) is None or pb.InferRequest.FromString(data)


@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_changed_messages_are_answered_as_protobuf_reads_them(
    engine: Any, bundle: Bundle, place: int, value: int, cut: int
) -> None:
    data = bytearray(message(bundle, 2).SerializeToString())
    data[place % len(data)] = value
    data = data[: len(data) - cut % 3]
    found = engine.answer(bytes(data), CLOUD_LEVEL, None, False)
    if found is None:
        return
    read = pb.InferRequest.FromString(bytes(data))
    answer = pb.InferResponse.FromString(found[0])
    assert answer.id == read.id
    decoded = FeatureCodec(bundle).decode(
        Frame(read.level, read.samples or 1, read.encoding, read.payload)
    )
    logits = CloudHalf(bundle).run(decoded, read.level, CLOUD_LEVEL)
    assert [one.label for one in answer.results] == logits.argmax(axis=1).tolist()


@pytest.mark.parametrize("logits", [None, 3, np.zeros((2, 2)), np.zeros(3, np.float32)])
def test_logits_that_are_none_are_refused(logits: Any) -> None:
    from shared.packed import _native

    with pytest.raises((ValueError, TypeError), match="logits"):
        _native.respond(logits, 0, 0, (0, 0, 0), None, None)
