"""Hostile bundle files: every one is refused with one line, or is a usable bundle."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from shared.bundles import bundle_path
from shared.errors import BundleError
from shared.model.bundle import Bundle, read_bundle, write_bundle

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
def test_truncated(path: Path, share: float) -> None:
    refused(path, GOOD[: int(len(GOOD) * share)])


def test_random_bytes(path: Path) -> None:
    rng = np.random.default_rng(5)
    for size in (1, 8, 9, 100, 5000):
        refused(path, rng.bytes(size))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 1])
def test_lying_header_length(path: Path, length: int) -> None:
    refused(path, length.to_bytes(8, "little") + GOOD[8:])


def test_every_flipped_tensor_byte_is_found(path: Path) -> None:
    rng = np.random.default_rng(6)
    for position in rng.integers(8 + HEADER, len(GOOD), 60):
        damaged = bytearray(GOOD)
        damaged[position] ^= 1 << int(rng.integers(8))
        assert "damaged" in refused(path, bytes(damaged))


def test_flipped_header_bytes_never_crash(path: Path) -> None:
    rng = np.random.default_rng(7)
    for position in rng.integers(0, 8 + HEADER, 300):
        damaged = bytearray(GOOD)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(BundleError):
            read_bundle(path)


def test_foreign_safetensors(path: Path) -> None:
    assert "not a taper bundle" in refused(path, save({"x": np.zeros(3)}))


def with_document(change: dict[str, Any]) -> bytes:
    header = json.loads(GOOD[8 : 8 + HEADER])
    document = {**json.loads(header["__metadata__"]["taper"]), **change}
    return save(load(GOOD), {"taper": json.dumps(document)})


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"format": 2}, "format version"),
        ({"format": None}, "format version"),
        ({"class_names": ["a"]}, "class names"),
        ({"architecture": None}, "cannot be read"),
        ({"architecture": {}}, "cannot be read"),
        ({"accuracy": 5}, "cannot be read"),
        ({"digests": {}}, "damaged"),
        ({"name": ""}, "cannot be read"),
    ],
)
def test_wrong_documents(path: Path, change: dict[str, Any], part: str) -> None:
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
        {"kind": "float_conv"},
        {"profile": "secret"},
        {"name": "a.b"},
    ],
)
def test_wrong_networks(path: Path, changes: dict[str, object]) -> None:
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
