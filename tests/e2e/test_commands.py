"""The commands as a user starts them: every kind of input and output, help, the demo."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from shared.images.idx import write_idx
from tests.support.processes import ROOT, Server, run, run_client, start_server

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that gives the same answers on a busy machine: it does not narrow itself."""
    with start_server("--cloud-fraction", "1") as running:
        yield running


@pytest.fixture
def inputs(digits: Digits, tmp_path: Path) -> dict[str, Path]:
    """The first five digits as every kind of file."""
    images = digits[0][:5, :, :, 0]
    (tmp_path / "folder").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "folder" / f"{index}.png")
    write_idx(tmp_path / "five-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "five-images-idx3-ubyte", images)
    np.save(tmp_path / "five.npy", images)
    return {path.name: path for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    "name", ["folder", "five-images-idx3-ubyte.gz", "five-images-idx3-ubyte", "five.npy"]
)
def test_every_kind_of_file_gives_the_same_answers(
    server: Server, inputs: dict[str, Path], name: str
) -> None:
    flags = ("--server", server.address, "--fraction", "0.5", "--output", "json")
    sample = run_client(*flags).document["samples"][:5]
    done = run_client(*flags, "--input", str(inputs[name]))
    assert done.status == 0, done.err
    found = done.document["samples"]
    assert [one["label"] for one in found] == [one["label"] for one in sample]


def test_an_image_on_standard_input_is_classified(server: Server, digits: Digits) -> None:
    stream = io.BytesIO()
    Image.fromarray(digits[0][0, :, :, 0]).save(stream, "png")
    flags = ("--server", server.address, "--input", "-", "--top-k", "3", "--output", "jsonl")
    done = run_client(*flags, stdin=stream.getvalue())
    assert done.status == 0, done.err
    (line,) = done.out.splitlines()
    sample = json.loads(line)
    assert sample["input"] == "-"
    assert len(sample["candidates"]) == 3


def test_the_table_shows_how_many_samples_were_answered(server: Server) -> None:
    done = run_client("--server", server.address, "--fraction", "0.3")
    assert done.status == 0, done.err
    assert "200 of 200 samples answered" in done.out
    assert "accuracy" in done.out


@pytest.mark.parametrize(("battery", "fraction"), [("100", 1.0), ("4", 0.125)])
def test_auto_follows_the_battery(server: Server, battery: str, fraction: float) -> None:
    flags = ("--server", server.address, "--fraction", "linear", "--battery", battery)
    done = run_client(*flags, "--output", "json")
    assert done.status == 0, done.err
    assert done.document["summary"]["fractions"] == [fraction]


@pytest.mark.parametrize("module", ["device.client", "cloud.server", "cloud.training.train"])
def test_help_reads_well(module: str) -> None:
    done = run([sys.executable, "-m", module, "--help"])
    assert done.status == 0
    assert "Usage:" in done.out
    assert "[/" not in done.out  # no markup left over


def test_device_and_server_import_no_torch() -> None:
    code = "import sys, device.client, cloud.server; assert 'torch' not in sys.modules"
    assert run([sys.executable, "-c", code]).status == 0


def test_the_demo_shows_every_fraction_and_saves_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "demo.svg"
    done = run([sys.executable, str(ROOT / "scripts" / "demo.py"), str(picture)])
    assert done.status == 0, done.err
    for fraction in ("0.1", "0.3", "0.5", "1.0", "auto"):
        assert fraction in done.out
    assert picture.read_text().startswith("<svg")
    assert picture.stat().st_size < 2**20
