"""The native front answers as the Python front does, and Python's part of it knows what it did."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from protos.inference import open_inference_pb2 as oip
from protos.split.v1 import split_pb2 as pb
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from tests.support.debian import need_native_front
from tests.support.dispatchers import dispatcher
from tests.support.served import Served, eventually, serve

need_native_front()

MODEL, OTHER = "mnist-binary", "mnist-binary-paper"
INFER = "/taper.split.v1.SplitInference/Infer"
INFER_STREAM = "/taper.split.v1.SplitInference/InferStream"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Fronts:
    """Two servers with the same models; the default is ``MODEL``."""

    python: Served
    native: Served


@pytest.fixture(scope="module")
def fronts() -> Iterator[Fronts]:
    flags = ("--model", MODEL, "--model", OTHER, "--cloud-fraction", "1.0")
    with (
        serve(*flags, TAPER_FRONT="python") as python,
        serve(*flags, TAPER_FRONT="native", TAPER_THREADS="2") as native,
    ):
        yield Fronts(python, native)


def requests_of(name: str, top_k: int = 0) -> list[pb.InferRequest]:
    """Requests of one digit each: at every level, in every encoding that the bundle has."""
    bundle = read_bundle(bundle_path(name))
    images, codec = sample_digits()[0][:3, ..., None], FeatureCodec(bundle)
    made = []
    for level in range(len(bundle.architecture.device_levels)):
        features = DeviceHalf(bundle).run(images, level)
        for number, encoding in enumerate((Encoding.RAW, Encoding.CONTEXT), 1):
            frame = codec.encode_as(features, level, encoding)
            made.append(
                pb.InferRequest(
                    id=10 * level + number,
                    level=level,
                    encoding=pb.Encoding.ValueType(encoding),
                    samples=len(images),
                    payload=frame.payload,
                    top_k=top_k,
                )
            )
    return made


def wrong_requests() -> list[pb.InferRequest]:
    """Requests that have no answer."""
    changes: list[dict[str, object]] = [
        {"model": "nothing"},
        {"version": "0" * 16},
        {"level": 99},
        {"encoding": 77},
        {"samples": 2**31},
        {"payload": b""},
        {"cloud_level": 50},
    ]
    made = []
    for change in changes:
        request = requests_of(MODEL)[0]
        for name, value in change.items():
            setattr(request, name, value)
        made.append(request)
    return made


def called(served: Served, method: str, data: bytes) -> tuple[str, str, bytes]:
    """Status, details and response of a call."""
    with grpc.insecure_channel(served.address) as channel:
        multi: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        call = multi.future(data, timeout=PATIENCE_S)
        answered = call.exception() is None
        return call.code().name, call.details() or "", call.result() if answered else b""


def streamed(served: Served, requests: list[pb.InferRequest]) -> dict[int, pb.InferResponse]:
    """The responses of one stream by id, without times."""
    with grpc.insecure_channel(served.address) as channel:
        method = channel.stream_stream(
            INFER_STREAM, pb.InferRequest.SerializeToString, pb.InferResponse.FromString
        )
        return {one.id: timeless(one) for one in method(iter(requests), timeout=PATIENCE_S)}


def timeless(response: pb.InferResponse) -> pb.InferResponse:
    response.queue_us = response.compute_us = 0
    response.ClearField("hints")
    return response


def test_answers_and_refusals_of_calls_are_the_same(fronts: Fronts) -> None:
    requests = [*requests_of(MODEL), *requests_of(MODEL, top_k=3), *wrong_requests()]
    requests[1].cloud_level = 0
    for request in requests:
        data = request.SerializeToString()
        ours, theirs = (called(one, INFER, data) for one in (fronts.native, fronts.python))
        assert ours[:2] == theirs[:2]
        assert timeless(pb.InferResponse.FromString(ours[2])) == timeless(
            pb.InferResponse.FromString(theirs[2])
        )
    assert called(fronts.native, INFER, b"\xff") == called(fronts.python, INFER, b"\xff")
    assert called(fronts.native, "/nothing/At", b"")[0] == "UNIMPLEMENTED"


def test_a_stream_remembers_what_it_named_last(fronts: Fronts) -> None:
    other = requests_of(OTHER)
    other[0].model = OTHER
    back = requests_of(MODEL)
    back[0].model = MODEL
    for number, request in enumerate([*other, *wrong_requests(), *back]):
        request.id = number + 1
    requests = [*other[:2], wrong_requests()[3], *other[2:], *back]
    for number, request in enumerate(requests):
        request.id = number + 1
    ours, theirs = streamed(fronts.native, requests), streamed(fronts.python, requests)
    assert len(ours) == len(requests)
    assert ours == theirs


def test_whole_images_are_answered_alike(fronts: Fronts) -> None:
    images = sample_digits()[0][:2]
    request = oip.ModelInferRequest(model_name=MODEL, id="a")
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=[2, 28, 28, 1])
    assert tensor.name == "image"
    request.raw_input_contents.append(np.ascontiguousarray(images).tobytes())
    for _ in range(3):  # the first one makes the device half
        data = request.SerializeToString()
        ours, theirs = (called(one, MODEL_INFER, data) for one in (fronts.native, fronts.python))
        assert ours[:2] == theirs[:2] == ("OK", "")
        answer, other = (oip.ModelInferResponse.FromString(one[2]) for one in (ours, theirs))
        # A front that is busy computes in a batch, whose probabilities may be rounded otherwise.
        probabilities, others = (_cut_probabilities(one) for one in (answer, other))
        np.testing.assert_allclose(probabilities, others, rtol=1e-5)
        assert answer == other


def _cut_probabilities(answer: oip.ModelInferResponse) -> npt.NDArray[np.float32]:
    """The probabilities of ``answer``, which is left without them."""
    return np.frombuffer(answer.raw_output_contents.pop(1), np.float32)


def test_what_the_front_answers_is_counted(fronts: Fronts) -> None:
    data = requests_of(MODEL)[0].SerializeToString()
    before = fronts.native.sample("taper_requests_total", status="OK")
    samples = fronts.native.sample("taper_samples_total", model=MODEL, fraction="1")
    for _ in range(5):
        assert called(fronts.native, INFER, data)[0] == "OK"
    assert fronts.native.sample("taper_requests_total", status="OK") == before + 5
    after = fronts.native.sample("taper_samples_total", model=MODEL, fraction="1")
    assert after == samples + 15


def test_without_the_library_one_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from cloud.server import main

    monkeypatch.setitem(sys.modules, "cloud.native._front", None)
    monkeypatch.delattr("cloud.native._front", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["--port", "0", "--front", "native"])
    assert ended.value.code != 0
    assert "libgrpc++-dev" in capsys.readouterr().err


def test_connections_that_have_closed_are_forgotten() -> None:
    """Even if the number of an open file goes to the next connection at once."""
    from cloud.native import _front

    front = _front.Front(
        dispatcher=dispatcher(),
        threads=1,
        max_message_bytes=2**20,
        max_streams=10,
        shared_port=False,
        all_to_python=False,
        tell_refusals=False,
        max_calls=10,
        max_call_bytes=2**20,
    )
    port = front.start("127.0.0.1:0", None)
    try:
        with socket.create_connection(("127.0.0.1", port)):
            for _ in range(300):
                socket.create_connection(("127.0.0.1", port)).close()
            eventually(lambda: front.connections == 1)
        eventually(lambda: front.connections == 0)
    finally:
        front.stop(0)
