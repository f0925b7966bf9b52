"""A user's mistakes at the real command lines: one line that names the flag, exit status 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.bundles import bundle_path
from tests.support.processes import Finished, Server, run, run_client

NOWHERE = "127.0.0.1:9"  # bad input is found before anything is sent


def check(done: Finished, *parts: str) -> None:
    """The run ended with status 2 and one short message with all of ``parts``."""
    assert done.status == 2, done
    assert "Traceback" not in done.err
    assert all(part in done.err for part in parts), done.err
    if done.err.startswith("error:"):
        assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize("fraction", ["0", "-1", "1.5", "nan", "inf", "abc", ""])
def test_a_wrong_fraction_is_refused(fraction: str) -> None:
    done = run_client(f"--fraction={fraction}", "--server", NOWHERE)
    check(done, "--fraction", "above 0")


@pytest.mark.parametrize(
    "address", ["localhost", "localhost:", ":50051", "a b:1", "h:0", "h:70000"]
)
def test_a_wrong_server_address_is_refused(address: str) -> None:
    check(run_client("--server", address), "--server")


@pytest.fixture
def bad_images(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "folder").mkdir()
    (tmp_path / "cut-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0\0\x05\0\0\0\x1c\0\0\0\x1c")
    np.save(tmp_path / "floats.npy", np.full((2, 28, 28), -1.5))  # of no range that is known
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "noise.npy").write_bytes(b"\x93NUMPY nonsense")
    names = ("empty.png", "text.png", "folder", "cut-images-idx3-ubyte", "floats.npy")
    return {name: tmp_path / name for name in (*names, "objects.npy", "noise.npy", "missing.png")}


@pytest.mark.parametrize(
    "name",
    [
        "empty.png",
        "text.png",
        "folder",
        "cut-images-idx3-ubyte",
        "floats.npy",
        "objects.npy",
        "noise.npy",
        "missing.png",
    ],
)
def test_an_input_that_is_no_image_is_refused(bad_images: dict[str, Path], name: str) -> None:
    check(run_client("--input", str(bad_images[name]), "--server", NOWHERE), "--input", name)


def test_empty_standard_input_is_refused() -> None:
    check(run_client("--input", "-", "--server", NOWHERE), "--input", "empty")


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(3, dtype=np.int64))
    check(run_client("--labels", str(tmp_path / "labels.npy"), "--server", NOWHERE), "--labels")


def test_image_of_another_size_is_scaled_and_said(server: Server, tmp_path: Path) -> None:
    Image.new("RGB", (100, 80), "black").save(tmp_path / "large.png")
    done = run_client(
        "--input", str(tmp_path / "large.png"), "--server", server.address, "--output", "json"
    )
    assert done.status == 0, done.err
    assert "1 of 1 images scaled to 28x28" in done.err
    assert len(done.document["samples"]) == 1


@pytest.fixture
def bad_bundles(tmp_path: Path) -> dict[str, Path]:
    good = bundle_path("mnist-binary-paper").read_bytes()
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    document = json.loads(header["__metadata__"]["taper"])
    header["__metadata__"]["taper"] = json.dumps({**document, "format": 99})
    other = json.dumps(header).encode()
    flipped = bytearray(good)
    flipped[-1] ^= 1
    contents = {
        "cut": good[: len(good) // 2],
        "empty": b"",
        "random": np.random.default_rng(1).bytes(5000),
        "version": len(other).to_bytes(8, "little") + other + good[8 + length :],
        "damaged": bytes(flipped),
    }
    paths = {name: tmp_path / f"{name}.safetensors" for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    return {**paths, "missing": tmp_path / "missing.safetensors"}


BUNDLES = {
    "cut": "cut.safetensors",
    "empty": "empty.safetensors",
    "random": "random.safetensors",
    "version": "format version",
    "damaged": "damaged",
    "missing": "cannot be read",
}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_broken_bundle_is_refused_by_both_halves(bad_bundles: dict[str, Path], name: str) -> None:
    path = str(bad_bundles[name])
    if name != "damaged":  # the last byte belongs to the cloud's part
        check(run_client("--server", NOWHERE, model=path), BUNDLES[name])
    server = [sys.executable, "-m", "cloud.server", "--port", "0", "--model", path]
    check(run(server), BUNDLES[name])


def test_an_unknown_model_is_refused_with_those_that_ship() -> None:
    check(run_client("--server", NOWHERE, model="nothing"), "--model", "mnist-binary-paper")


@pytest.mark.parametrize("flags", [["--port", "70000"], ["--model", "nothing"], ["--host", "9.9"]])
def test_a_wrong_flag_of_the_server_is_refused(flags: list[str]) -> None:
    check(run([sys.executable, "-m", "cloud.server", "--port", "0", *flags]), flags[0])
