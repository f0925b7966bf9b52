"""The Open Inference Protocol, asked by NVIDIA's client: the answers are the network's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shared.model.bundle import Bundle
from shared.packed import CloudHalf, DeviceHalf
from tests.support.processes import run, start_server

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
LEVEL = 2


@pytest.fixture(scope="module")
def said(bundle: Bundle, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("triton") / "arrays.npz"
    features = DeviceHalf(bundle).run(digits[0], LEVEL)
    np.savez(path, images=digits[0], features=features, model=bundle.metadata.name, level=LEVEL)
    with start_server("--model", bundle.metadata.name, "--cloud-fraction", "1") as server:
        done = run([sys.executable, "-m", "tests.support.triton_client", server.address, str(path)])
    assert done.status == 0, done.err
    return json.loads(done.out)


def labels(bundle: Bundle, images: npt.NDArray[np.uint8], level: int) -> list[int]:
    features = DeviceHalf(bundle).run(images, level)
    found: list[int] = CloudHalf(bundle).run(features, level, 3).argmax(axis=1).tolist()
    return found


def test_what_the_server_says_of_itself(said: Any) -> None:
    assert said["live"]
    assert said["ready"]
    assert said["model_ready"]
    assert not said["other_ready"]
    assert said["server"] == "taper"
    assert said["inputs"] == ["image", "features"]


def test_whole_images_get_the_labels_of_the_network(
    said: Any, bundle: Bundle, digits: Digits
) -> None:
    assert said["images"]["labels"] == labels(bundle, digits[0], 5)
    assert said["images"]["best"] == said["images"]["labels"]
    assert said["images"]["sums"] == pytest.approx([1.0] * 200, abs=1e-5)
    assert said["images"]["id"] == "seven"
    assert said["one"]["labels"] == said["images"]["labels"][:1]
    assert said["many"]["labels"] == said["one"]["labels"] * 1500


def test_images_and_features_of_a_device_level_get_the_same_labels(
    said: Any, bundle: Bundle, digits: Digits
) -> None:
    assert said["narrow"]["labels"] == labels(bundle, digits[0], LEVEL)
    assert said["features"]["labels"] == said["narrow"]["labels"]


@pytest.mark.parametrize("kind", ["floats", "shares"])
def test_images_of_numbers_get_the_labels_of_bytes(said: Any, kind: str) -> None:
    assert said[kind]["labels"] == said["images"]["labels"]


def test_picture_files_are_prepared_as_the_bundle_says(said: Any) -> None:
    assert said["files"]["labels"] == said["images"]["labels"][:20]
    assert said["broken"]["status"] == "StatusCode.INVALID_ARGUMENT"
    assert "image 0" in said["broken"]["message"]


def test_the_best_classes_come_in_words(said: Any) -> None:
    for row, label in zip(said["best"], said["images"]["labels"], strict=False):
        shares, labels, names = zip(*(one.split(":") for one in row), strict=True)
        assert len(row) == 3
        assert int(labels[0]) == label
        assert names[0] == str(label)
        assert sorted(shares, key=float, reverse=True) == list(shares)


def test_a_version_may_be_a_number(said: Any) -> None:
    assert said["numbered"] == [True, False, False]


def test_configuration_statistics_and_index_describe_the_model(said: Any, bundle: Bundle) -> None:
    name = bundle.metadata.name
    assert said["config"] == [name, 1024, ["28", "28", "1"]]
    assert int(said["statistics"]["inference_count"]) >= 200
    assert int(said["statistics"]["inference_stats"]["compute_infer"]["ns"]) > 0
    assert (
        int(said["statistics"]["inference_stats"]["fail"]["count"]) == 2
    )  # a wrong shape, a level beyond
    assert said["index"] == [{"name": name, "version": "1", "state": "READY"}]


def test_a_stream_answers_every_request_and_names_what_is_wrong(said: Any) -> None:
    found = said["stream"]["labels"]
    assert [found[str(place)] for place in range(40)] == said["images"]["labels"][:40]
    assert len(said["stream"]["errors"]) == 1
    assert "model: 'other'" in said["stream"]["errors"][0]


def test_models_are_not_loaded_without_an_admin(said: Any) -> None:
    assert said["load"] == "StatusCode.UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("case", "status", "part"),
    [
        ("unknown", "NOT_FOUND", "model: 'other'"),
        ("misshaped", "INVALID_ARGUMENT", "shape: "),
        ("misnamed", "INVALID_ARGUMENT", "inputs: 'picture'"),
        ("beyond", "INVALID_ARGUMENT", "level: 99"),
    ],
)
def test_a_wrong_request_is_refused_with_its_field(
    said: Any, case: str, status: str, part: str
) -> None:
    assert said[case]["status"] == f"StatusCode.{status}"
    assert part in said[case]["message"]
