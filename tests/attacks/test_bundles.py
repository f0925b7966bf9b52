"""Hostile bundle files: every one is refused with one line, or is a usable bundle."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from cloud.training.split.architectures import compact, paper
from device.micro.blob import make_blob
from shared.bundles import bundle_path
from shared.errors import BundleError
from shared.model.architecture import Activation, Shape
from shared.model.bundle import (
    DEVICE_GROUPS,
    Bundle,
    make_bundle,
    read_bundle,
    serialise,
    write_bundle,
)
from tests.support.networks import random_bundle

GOOD = bundle_path("mnist-binary-paper").read_bytes()
HEADER = int.from_bytes(GOOD[:8], "little")


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(BundleError) as error:
        read_bundle(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bad.safetensors"


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused(path: Path, share: float) -> None:
    refused(path, GOOD[: int(len(GOOD) * share)])


def test_random_bytes_are_refused(path: Path) -> None:
    rng = np.random.default_rng(5)
    for size in (1, 8, 9, 100, 5000):
        refused(path, rng.bytes(size))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 1])
def test_a_wrong_header_length_is_refused(path: Path, length: int) -> None:
    refused(path, length.to_bytes(8, "little") + GOOD[8:])


def test_every_flipped_tensor_byte_is_found(path: Path) -> None:
    rng = np.random.default_rng(6)
    for position in rng.integers(8 + HEADER, len(GOOD), 60):
        damaged = bytearray(GOOD)
        damaged[position] ^= 1 << int(rng.integers(8))
        assert "damaged" in refused(path, bytes(damaged))


def test_flipped_header_bytes_are_read_or_refused(path: Path) -> None:
    rng = np.random.default_rng(7)
    for position in rng.integers(0, 8 + HEADER, 300):
        damaged = bytearray(GOOD)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(BundleError):
            read_bundle(path)


def test_tensors_of_another_program_are_refused(path: Path) -> None:
    assert "not a taper bundle" in refused(path, save({"x": np.zeros(3)}))


def with_document(change: dict[str, Any]) -> bytes:
    header = json.loads(GOOD[8 : 8 + HEADER])
    document = {**json.loads(header["__metadata__"]["taper"]), **change}
    return save(load(GOOD), {"taper": json.dumps(document)})


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format": 4}, "format version"),
        ({"format": None}, "format version"),
        ({"class_names": ["a"]}, "class names"),
        ({"architecture": None}, "cannot be read"),
        ({"architecture": {}}, "cannot be read"),
        ({"accuracy": 5}, "cannot be read"),
        ({"digests": {}}, "damaged"),
        ({"name": ""}, "cannot be read"),
        ({"preprocessing": {"colour": True}}, "preprocessing"),
        ({"preprocessing": {"colour": False, "ground": 300}}, "ground is 300"),
        ({"preprocessing": {"colour": False, "resize": "magic"}}, "resize is 'magic'"),
        ({"preprocessing": {"colour": False, "ink_box": 9}}, "ink_box needs an ink"),
        ({"preprocessing": {"colour": False, "ink": 255, "ink_box": 99}}, "does not fit"),
        ({"preprocessing": {"colour": False, "mean": [9, 1]}}, "mean is"),
        ({"preprocessing": {"colour": False, "crop": [0, 0, 0, 0]}}, "crop is"),
        ({"preprocessing": {"later": 1}}, "cannot be read"),
        ({"preprocessing": [1]}, "cannot be read"),
    ],
)
def test_a_wrong_field_of_the_metadata_is_named(
    path: Path, change: dict[str, Any], part: str
) -> None:
    assert part in refused(path, with_document(change))


def architecture_with(**changes: object) -> dict[str, Any]:
    header = json.loads(GOOD[8 : 8 + HEADER])
    value: dict[str, Any] = json.loads(header["__metadata__"]["taper"])["architecture"]
    value["device"][0] |= changes
    return value


@pytest.mark.parametrize(
    "changes",
    [
        {"out_channels": 10**9},
        {"out_channels": 16},
        {"in_channels": 3},
        {"pool": 0},
        {"step": -1},
        {"stride": 0},
        {"stride": 2},
        {"stride": 3},
        {"kind": "float_conv"},
        {"profile": "secret"},
        {"name": "a.b"},
    ],
)
def test_a_network_that_its_tensors_do_not_fit_is_refused(
    path: Path, changes: dict[str, object]
) -> None:
    refused(path, with_document({"architecture": architecture_with(**changes)}))


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing.safetensors"):
        with pytest.raises(BundleError):
            read_bundle(place)


def test_written_bundle_reads_back(path: Path, bundle: Bundle) -> None:
    write_bundle(bundle, path)
    again = read_bundle(path)
    assert again.metadata == bundle.metadata
    assert list(path.parent.iterdir()) == [path]  # no temporary file is left


@pytest.fixture(scope="module")
def ternary() -> Bundle:
    """A bundle whose first two cloud stages give two bits a channel."""
    network = paper(Shape(12, 12, 1), 10)
    inner = [replace(stage, activation=Activation.TERNARY) for stage in network.cloud[:-1]]
    return random_bundle(replace(network, cloud=(*inner, network.cloud[-1])))


def format_of(data: bytes) -> int:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return int(json.loads(header["__metadata__"]["taper"])["format"])


def test_ternary_bundles_read_back_and_refuse_older_readers(path: Path, ternary: Bundle) -> None:
    write_bundle(ternary, path)
    again = read_bundle(path)
    assert again.metadata == ternary.metadata
    for name, tensor in ternary.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)
    assert format_of(path.read_bytes()) == 2
    assert format_of(GOOD) == 1


def test_an_older_device_reads_its_part_of_a_ternary_bundle(path: Path, ternary: Bundle) -> None:
    part = serialise(ternary, DEVICE_GROUPS)
    assert format_of(part) == 1
    # It knows no activations, and yet it must name the version that the server has.
    size = int.from_bytes(part[:8], "little")
    document = json.loads(json.loads(part[8 : 8 + size])["__metadata__"]["taper"])
    for stage in (*document["architecture"]["device"], *document["architecture"]["cloud"]):
        stage.pop("activation", None)
    path.write_bytes(save(load(part), {"taper": json.dumps(document)}))
    assert read_bundle(path).metadata.version == ternary.metadata.version


def test_bundles_with_strides_read_back_and_refuse_older_readers(path: Path) -> None:
    made = compact(Shape(28, 28, 1), 10)
    first, *more = made.device
    strided = random_bundle(replace(made, device=(replace(first, pool=1, stride=2), *more)))
    write_bundle(strided, path)
    assert read_bundle(path).metadata == strided.metadata
    assert format_of(path.read_bytes()) == format_of(serialise(strided, DEVICE_GROUPS)) == 3
    with pytest.raises(BundleError, match="conv1: stride 2 is not for boards"):
        make_blob(strided, [0])


def test_ternary_and_binary_twins_have_different_versions(ternary: Bundle) -> None:
    network = ternary.architecture
    binary = [replace(stage, activation=Activation.BINARY) for stage in network.cloud]
    twin = random_bundle(replace(network, cloud=tuple(binary)))
    assert twin.metadata.version != ternary.metadata.version


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda low: None, "has no tensor low_threshold"),
        (lambda low: low[:-1], "low_threshold is int16(23, 32), must be int16 or int32(24, 32)"),
        (lambda low: low[:, :-1], "low_threshold is int16(24, 31)"),
        (lambda low: low.astype(np.int64), "low_threshold is int64(24, 32)"),
        (lambda low: low.astype(np.float32), "low_threshold is float32(24, 32)"),
    ],
)
def test_wrong_second_thresholds(ternary: Bundle, change: Any, part: str) -> None:
    tensors = dict(ternary.tensors)
    changed = change(tensors.pop("cloud.conv3.low_threshold"))
    if changed is not None:
        tensors["cloud.conv3.low_threshold"] = changed
    with pytest.raises(BundleError) as error:
        make_bundle(ternary.metadata, tensors)
    assert part in str(error.value)


def test_a_binary_bundle_that_claims_to_be_ternary(path: Path) -> None:
    value = architecture_with()
    value["cloud"][0]["activation"] = "ternary"
    message = refused(path, with_document({"architecture": value}))
    assert "stage cloud.conv3: has no tensor low_threshold" in message


@pytest.mark.parametrize("half", ["device", "cloud"])
def test_ternary_stages_in_wrong_places(path: Path, half: str) -> None:
    value = architecture_with()
    value[half][-1]["activation"] = "ternary"
    assert "must be binary" in refused(path, with_document({"architecture": value}))
