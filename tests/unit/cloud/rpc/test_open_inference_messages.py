"""Which requests of the Open Inference Protocol are refused, and by what name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloud.rpc.open_inference_messages import parse_request
from cloud.rpc.tensors import Wanted
from protos.inference import open_inference_pb2 as pb
from shared.errors import InvalidRequestError

Change = Callable[[pb.ModelInferRequest], object]


def valid() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="tiny")
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 2, 2, 1])
    request.raw_input_contents.append(bytes(4))
    return request


def shaped(*shape: int) -> Change:
    def change(request: pb.ModelInferRequest) -> None:
        request.inputs[0].shape[:] = shape
        request.raw_input_contents[0] = b"\0"

    return change


def repeated(count: int) -> Change:
    return lambda request: [request.outputs.add(name="probabilities") for _ in range(count)]


def typed_too(request: pb.ModelInferRequest) -> None:
    request.inputs[0].contents.uint_contents.extend([0] * 4)


REFUSALS: dict[str, tuple[Change, str]] = {
    "65 ones": (shaped(*[1] * 65), "shape"),
    "9 axes": (shaped(*[1] * 9), "shape"),
    "huge sides": (shaped(2**62, 2**62), "shape"),
    "a negative side": (shaped(-1, 28), "shape"),
    "no batch": (shaped(0, 2, 2, 1), "shape"),
    "one axis": (shaped(1), "shape"),
    "an output twice": (repeated(2), "outputs"),
    "an output 100,000 times": (repeated(100_000), "outputs"),
    "an output that is unknown": (lambda request: request.outputs.add(name="x"), "outputs"),
    "raw and typed contents": (typed_too, "contents"),
    "two inputs": (lambda request: request.inputs.add(name="features"), "inputs"),
    "two raw contents": (lambda request: request.raw_input_contents.append(b""), "raw_input"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_wrong_request_is_refused_with_its_field(name: str) -> None:
    change, field = REFUSALS[name]
    request = valid()
    change(request)
    with pytest.raises(InvalidRequestError, match=field):
        parse_request(request.SerializeToString())


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="message"):
        parse_request(b"\xff" * 9)


def test_a_valid_request_is_read() -> None:
    asked = parse_request(valid().SerializeToString())
    assert asked.tensor.shape == (1, 2, 2, 1)
    assert asked.outputs == (Wanted("label"), Wanted("probabilities"))
