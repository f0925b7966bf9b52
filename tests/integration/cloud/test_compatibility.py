"""What release 0.1 wrote and sent is read, answered and configured as it was then.

The files in ``tests/fixtures/release-0.1`` were written by that release's code: a bundle with all
codec tables, serialised requests with the responses that its server gave, the printed settings of a
server, and the configuration of Ray Serve.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml

from cloud.settings import ServerSettings, load, to_toml
from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.model.bundle import DEVICE_GROUPS, Bundle, read_bundle, serialise
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from tests.support.processes import ROOT, Server, start_server

RELEASE = ROOT / "tests" / "fixtures" / "release-0.1"
BUNDLE = RELEASE / "tiny.safetensors"
RECORDED: dict[str, Any] = json.loads((RELEASE / "calls.json").read_text())
CALLS = [
    (bytes.fromhex(one["request"]), bytes.fromhex(one["response"])) for one in RECORDED["calls"]
]


@pytest.fixture(scope="module")
def old() -> Bundle:
    return read_bundle(BUNDLE)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_server("--model", str(BUNDLE)) as running:
        yield running


def test_its_bundle_has_the_same_version_and_device_part(old: Bundle) -> None:
    assert old.metadata.version == RECORDED["version"]
    part = hashlib.sha256(serialise(old, DEVICE_GROUPS)).hexdigest()
    assert part == RECORDED["device_part_sha256"]


def test_devices_send_the_bytes_that_they_sent_then(old: Bundle) -> None:
    images = np.frombuffer(bytes.fromhex(RECORDED["images"]), np.uint8).reshape(4, 8, 8, 1)
    half, codec = DeviceHalf(old), FeatureCodec(old)
    for data, _ in CALLS:
        sent = pb.InferRequest.FromString(data)
        features = half.run(images, sent.level)
        frame = codec.encode_as(features, sent.level, Encoding(sent.encoding))
        if sent.encoding != pb.ENCODING_ZSTD_DICT:  # zstd may compress better in time
            assert frame.payload == sent.payload
        np.testing.assert_array_equal(codec.decode(frame), features)


@pytest.mark.parametrize("place", range(len(CALLS)))
def test_its_clients_get_the_answers_that_they_got_then(server: Server, place: int) -> None:
    data, recorded = CALLS[place]
    with grpc.insecure_channel(server.address) as channel:
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        request = pb.InferRequest.FromString(data)
        answers = [stub.Infer(request), *stub.InferStream(iter([request, request]))]
    expected = pb.InferResponse.FromString(recorded)
    for answer in answers:
        answer.ClearField("queue_us")
        answer.ClearField("compute_us")
        answer.ClearField("hints")
        for found, known in zip(answer.results, expected.results, strict=True):
            for mine, theirs in zip(found.candidates, known.candidates, strict=True):
                assert mine.probability == pytest.approx(theirs.probability, rel=1e-5)
                mine.probability = theirs.probability
        assert answer == expected


def test_its_settings_mean_what_they_meant() -> None:
    settings = load({}, RELEASE / "server.toml", {})
    written = (RELEASE / "server.toml").read_text().splitlines()
    assert set(written) <= set(to_toml(settings).splitlines())
    variables = {
        f"TAPER_{line.split(' = ')[0].upper()}": json.loads(line.split(" = ")[1])
        for line in written
    }
    spelt = {
        name: ",".join(value)
        if isinstance(value, list)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
        for name, value in variables.items()
    }
    assert load({}, None, spelt) == settings


def test_its_ray_configuration_names_what_there_is() -> None:
    config = yaml.safe_load((RELEASE / "serve_config.yaml").read_text())
    (application,) = config["applications"]
    module, _, name = application["import_path"].partition(":")
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    assert f"\n{name} = " in Path(found.origin).read_text()
    for function in config["grpc_options"]["grpc_servicer_functions"]:
        module, _, name = function.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
    known = {f"TAPER_{field.upper()}" for field in ServerSettings.model_fields}
    assert set(application["runtime_env"]["env_vars"]) <= known
    (deployment,) = application["deployments"]
    assert deployment["name"] == "Replica"
