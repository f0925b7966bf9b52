"""The REST form of the Open Inference Protocol, asked by plain HTTP."""

from __future__ import annotations

import http.client
import io
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from shared.model.bundle import Bundle
from shared.packed import CloudHalf, DeviceHalf
from tests.support.processes import ROOT, environment
from tests.support.served import PATIENCE_S

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
TOKEN = "a-token-of-more-than-16"
HEAD = "Inference-Header-Content-Length"


@contextmanager
def serve(*flags: str) -> Iterator[str]:
    """The address of the HTTP port of a server."""
    command = [sys.executable, "-m", "cloud.server", "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--http-port", "0", *flags],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        lines = [process.stdout.readline() if process.stdout else "" for _ in range(2)]
        assert lines[1].startswith("http on "), lines
        yield lines[1].split()[-1]
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(bundle: Bundle) -> Iterator[str]:
    flags = ("--model", bundle.metadata.name, "--cloud-fraction", "1")
    with serve(*flags, "--max-message-bytes", "500000") as found:
        yield found


def ask(
    address: str, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    try:
        spelt = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, spelt)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.headers)
    finally:
        connection.close()


def infer(address: str, model: str, **fields: Any) -> Any:
    status, body, _ = ask(address, "POST", f"/v2/models/{model}/infer", json.dumps(fields).encode())
    return status, json.loads(body)


def image(values: npt.NDArray[Any], datatype: str, **more: Any) -> dict[str, Any]:
    data = values.reshape(-1).tolist()
    return {"name": "image", "datatype": datatype, "shape": values.shape, "data": data, **more}


def labels(bundle: Bundle, images: npt.NDArray[np.uint8]) -> list[int]:
    features = DeviceHalf(bundle).run(images, 5)
    found: list[int] = CloudHalf(bundle).run(features, 5, 3).argmax(axis=1).tolist()
    return found


def test_the_server_and_its_model_describe_themselves(address: str, bundle: Bundle) -> None:
    name = bundle.metadata.name
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{name}/ready"):
        assert ask(address, "GET", path)[0] == 200
    assert ask(address, "GET", "/v2/models/other/ready")[0] == 503
    assert json.loads(ask(address, "GET", "/v2")[1])["name"] == "taper"
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/1"):
        metadata = json.loads(ask(address, "GET", path)[1])
        assert metadata["versions"] == ["1", bundle.metadata.version]
        assert metadata["inputs"][0]["shape"] == [-1, 28, 28, 1]
    config = json.loads(ask(address, "GET", f"/v2/models/{name}/config")[1])
    assert config["max_batch_size"] == 1024
    index = json.loads(ask(address, "POST", "/v2/repository/index")[1])
    assert [(one["name"], one["state"]) for one in index] == [(name, "READY")]


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_images_as_json_get_the_labels_of_the_network(
    address: str, bundle: Bundle, digits: Digits, datatype: str
) -> None:
    images = digits[0][:20]
    values = images if datatype == "UINT8" else images.astype(np.float32) / 255
    status, answer = infer(
        address, bundle.metadata.name, id="seven", inputs=[image(values, datatype)]
    )
    assert status == 200, answer
    assert answer["id"] == "seven"
    found = {output["name"]: output for output in answer["outputs"]}
    assert found["label"]["data"] == labels(bundle, images)
    assert found["probabilities"]["shape"] == [20, 10]
    assert sum(found["probabilities"]["data"]) == pytest.approx(20, abs=1e-3)
    stats = json.loads(ask(address, "GET", f"/v2/models/{bundle.metadata.name}/stats")[1])
    assert int(stats["model_stats"][0]["inference_count"]) >= 20


def test_binary_tensors_go_both_ways(address: str, bundle: Bundle, digits: Digits) -> None:
    files = []
    for one in digits[0][:5]:
        out = io.BytesIO()
        Image.fromarray(one[:, :, 0]).save(out, "PNG")
        files.append(out.getvalue())
    raw = b"".join(struct.pack("<I", len(file)) + file for file in files)
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "image",
                    "datatype": "BYTES",
                    "shape": [5],
                    "parameters": {"binary_data_size": len(raw)},
                }
            ],
            "outputs": [{"name": "label", "parameters": {"binary_data": True}}],
        }
    ).encode()
    path = f"/v2/models/{bundle.metadata.name}/infer"
    status, body, headers = ask(
        address, "POST", path, head + raw, Inference_Header_Content_Length=str(len(head))
    )
    assert status == 200, body
    size = int({name.lower(): value for name, value in headers.items()}[HEAD.lower()])
    described = json.loads(body[:size])["outputs"]
    assert described[0]["parameters"] == {"binary_data_size": 40}
    assert np.frombuffer(body[size:], "<i8").tolist() == labels(bundle, digits[0][:5])


def test_the_best_classes_come_in_words(address: str, bundle: Bundle, digits: Digits) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 2}}]
    inputs = [image(digits[0][:1], "UINT8")]
    status, answer = infer(address, bundle.metadata.name, inputs=inputs, outputs=wanted)
    assert status == 200
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    assert int(output["data"][0].split(":")[1]) == labels(bundle, digits[0][:1])[0]


ZEROS = np.zeros((1, 28, 28, 1), np.uint8)
REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({}, "inputs"),
    "inputs that are no list": ({"inputs": 3}, "inputs"),
    "an unknown input": ({"inputs": [image(ZEROS, "UINT8", name="x")]}, "inputs"),
    "an unknown type": ({"inputs": [image(ZEROS, "FP64")]}, "datatype"),
    "a wrong shape": ({"inputs": [image(ZEROS, "UINT8", shape=[1, 2])]}, "shape"),
    "a shape of words": ({"inputs": [image(ZEROS, "UINT8", shape=["1"])]}, "shape"),
    "data of words": ({"inputs": [image(ZEROS, "UINT8", data=["x"] * 784)]}, "data"),
    "no data": ({"inputs": [image(ZEROS, "UINT8", data=None)]}, "data"),
    "a value above 255": ({"inputs": [image(ZEROS, "UINT8", data=[256] * 784)]}, "contents"),
    "bytes that did not come": (
        {"inputs": [image(ZEROS, "UINT8", parameters={"binary_data_size": 9})]},
        "binary_data_size",
    ),
    "a level that is none": (
        {"inputs": [image(ZEROS, "UINT8")], "parameters": {"level": "2"}},
        "parameters",
    ),
    "an output twice": (
        {"inputs": [image(ZEROS, "UINT8")], "outputs": [{"name": "label"}] * 2},
        "outputs",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_wrong_request_is_refused_with_its_field(address: str, bundle: Bundle, name: str) -> None:
    fields, part = REFUSALS[name]
    status, answer = infer(address, bundle.metadata.name, **fields)
    assert status == 400
    assert part in answer["error"]


def test_what_is_no_json_too_large_or_unknown_is_refused(address: str, bundle: Bundle) -> None:
    path = f"/v2/models/{bundle.metadata.name}/infer"
    for body in (b"no json", b"[1]", b"[" * 100_000, b"x" * 600_000):
        status, answer, _ = ask(address, "POST", path, body)
        assert status == 400
        assert "body" in json.loads(answer)["error"]
    status, answer = infer(address, "other", inputs=[image(ZEROS, "UINT8")])
    assert status == 404
    assert bundle.metadata.name in answer["error"]


def test_tokens_are_wanted_and_an_admin_loads_models(bundle: Bundle, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"somebody {TOKEN}\n")
    name = bundle.metadata.name
    flags = ("--token-file", str(tokens), "--admin-token-file", str(tokens))
    with serve("--model", name, *flags) as address:
        shown = f"Bearer {TOKEN}"
        assert ask(address, "GET", "/v2/health/ready")[0] == 200
        assert ask(address, "GET", f"/v2/models/{name}")[0] == 401
        assert ask(address, "GET", f"/v2/models/{name}", Authorization=shown)[0] == 200
        change = f"/v2/repository/models/{name}"
        assert ask(address, "POST", f"{change}/unload")[0] == 401
        assert ask(address, "POST", f"{change}/unload", Authorization=shown)[0] == 200
        assert ask(address, "GET", "/v2/health/ready")[0] == 503
        assert ask(address, "POST", f"{change}/load", Authorization=shown)[0] == 200
        assert ask(address, "GET", "/v2/health/ready")[0] == 200
