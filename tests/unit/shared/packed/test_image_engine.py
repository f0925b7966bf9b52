"""The engine for whole images says what the Python path of the Open Inference Protocol says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.inference import open_inference_pb2 as pb
from shared.bundles import bundle_path
from shared.model.bundle import Bundle, read_bundle
from shared.packed import CloudHalf, DeviceHalf, kernels
from shared.protocol.responses import probabilities

pytestmark = pytest.mark.skipif(
    kernels.missing_reason() != "", reason="the compiled kernels are not built"
)
CLOUD_LEVEL, MOST = 3, 16
Change = Callable[[pb.ModelInferRequest], object]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(bundle_path("mnist-binary"))


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Any:
    from shared.protocol.engine import image_engine_of

    made = image_engine_of(DeviceHalf(bundle), CloudHalf(bundle), bundle)
    assert made is not None
    return made


def images(count: int) -> Any:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28, 1), np.uint8)


def asked(count: int, *outputs: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="mnist-binary", id="seven")
    request.inputs.add(name="image", datatype="UINT8", shape=(count, 28, 28, 1))
    request.raw_input_contents.append(images(count).tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    return request


@pytest.mark.parametrize("count", [1, 3, MOST])
@pytest.mark.parametrize(
    "outputs", [(), ("label",), ("probabilities",), ("probabilities", "label")]
)
def test_an_answer_is_that_of_both_halves(
    engine: Any, bundle: Bundle, count: int, outputs: tuple[str, ...]
) -> None:
    found = engine.answer(asked(count, *outputs).SerializeToString(), CLOUD_LEVEL, MOST)
    assert found is not None
    data, level, encoding, samples, _, _, decode_s, run_s, *_ = found
    assert (level, encoding, samples) == (5, 0, count)
    assert decode_s > 0 < run_s
    logits = CloudHalf(bundle).run(DeviceHalf(bundle).run(images(count), 5), 5, CLOUD_LEVEL)
    answer = pb.ModelInferResponse.FromString(data)
    assert (answer.model_name, answer.id) == ("mnist-binary", "seven")
    assert answer.model_version == bundle.metadata.version
    assert answer.parameters["cloud_level"].int64_param == CLOUD_LEVEL
    assert [one.name for one in answer.outputs] == list(outputs or ("label", "probabilities"))
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        if output.name == "label":
            assert (output.datatype, list(output.shape)) == ("INT64", [count])
            np.testing.assert_array_equal(np.frombuffer(raw, "<i8"), logits.argmax(axis=1))
        else:
            assert (output.datatype, list(output.shape)) == ("FP32", [count, 10])
            shares = np.frombuffer(raw, "<f4").reshape(count, 10)
            np.testing.assert_allclose(shares, probabilities(logits), rtol=1e-5)


def test_the_narrowest_level_is_said_too(engine: Any) -> None:
    data = engine.answer(asked(1).SerializeToString(), 0, MOST)[0]
    level = pb.ModelInferResponse.FromString(data).parameters["cloud_level"]
    assert level.HasField("int64_param")
    assert level.int64_param == 0


def typed(request: pb.ModelInferRequest) -> None:
    request.inputs[0].contents.uint_contents.append(1)


def shaped(*shape: int) -> Change:
    return lambda request: request.inputs[0].shape.__setitem__(slice(None), shape)


LEFT: dict[str, Change] = {
    "another model": lambda request: setattr(request, "model_name", "other"),
    "a version": lambda request: setattr(request, "model_version", "1"),
    "text beyond ASCII": lambda request: setattr(request, "id", "sieben: \u2467"),
    "a parameter": lambda request: setattr(request.parameters["level"], "int64_param", 1),
    "floats": lambda request: setattr(request.inputs[0], "datatype", "FP32"),
    "features": lambda request: setattr(request.inputs[0], "name", "features"),
    "typed contents": typed,
    "two inputs": lambda request: request.inputs.add(name="image"),
    "no raw contents": lambda request: request.ClearField("raw_input_contents"),
    "two raw contents": lambda request: request.raw_input_contents.append(b""),
    "a raw content that is cut": lambda request: request.raw_input_contents.__setitem__(0, b"\0"),
    "a flat shape": shaped(784),
    "another shape": shaped(1, 28, 14, 2),
    "no image": shaped(0, 28, 28, 1),
    "a negative side": shaped(-1, 28, 28, 1),
    "more images than there are": shaped(2, 28, 28, 1),
    "sides whose product is 0 in 64 bits": shaped(2**62, 28, 28, 1),
    "many axes": shaped(*[1] * 65),
    "an output twice": lambda request: [request.outputs.add(name="label") for _ in range(2)],
    "an unknown output": lambda request: request.outputs.add(name="logits"),
    "a classification": lambda request: setattr(
        request.outputs.add(name="probabilities").parameters["classification"], "int64_param", 3
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_out_of_the_ordinary_is_left_to_the_caller(engine: Any, name: str) -> None:
    request = asked(1)
    LEFT[name](request)
    assert engine.answer(request.SerializeToString(), CLOUD_LEVEL, MOST) is None


def test_more_images_than_allowed_are_left_to_the_caller(engine: Any) -> None:
    assert engine.answer(asked(3).SerializeToString(), CLOUD_LEVEL, 2) is None


@given(data=st.binary(max_size=200), cut=st.integers(0, 900), flipped=st.integers(0, 8000))
def test_no_bytes_do_harm(engine: Any, data: bytes, cut: int, flipped: int) -> None:
    engine.answer(data, CLOUD_LEVEL, MOST)
    right = asked(1).SerializeToString()
    assert engine.answer(right[:cut], CLOUD_LEVEL, MOST) is None or cut >= len(right)
    broken = bytearray(right)
    broken[flipped // 8 % len(right)] ^= 1 << flipped % 8
    engine.answer(bytes(broken) + data[:3], CLOUD_LEVEL, MOST)
