"""The WebAssembly module against the packed runtime, in Node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from device.micro.footprint import ENGINE
from device.web.build import compile_engine
from device.web.command import main
from shared.bundles import bundle_path
from shared.errors import UsageError
from shared.model.bundle import read_bundle
from shared.model.exits import local_answer, read_calibration
from shared.packed import DeviceHalf
from tests.integration.device.test_micro import SHIPPED, agrees, pictures
from tests.support.debian import need
from tests.support.playgrounds import long
from tests.support.web_module import build_module, run_in_node

OTHERS = [name for name in SHIPPED if name != "mnist-binary"]


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("web", "clang", "wasm-ld", "node")


@pytest.mark.parametrize("name", ["mnist-binary", *(pytest.param(n, marks=long) for n in OTHERS)])
def test_the_module_gives_the_bits_and_requests_of_the_packed_runtime(
    name: str, tmp_path: Path
) -> None:
    bundle = read_bundle(bundle_path(name))
    images = pictures(bundle, 24)
    results, _ = run_in_node(build_module(name, tmp_path), name, images)
    agrees(bundle, list(range(len(bundle.architecture.device_levels))), results, images)


def test_probabilities_that_are_shown_are_those_of_the_python_client(tmp_path: Path) -> None:
    bundle = read_bundle(bundle_path("mnist-binary"))
    images, half, calibration = pictures(bundle, 24), DeviceHalf(bundle), read_calibration(bundle)
    assert calibration is not None
    _, shown = run_in_node(build_module("mnist-binary", tmp_path), "mnist-binary", images)
    levels = len(bundle.architecture.device_levels)
    for level in range(levels):
        logits = half.exit_logits(half.run(images, level), level).tolist()
        wanted = [local_answer(row, calibration.temperature[level]).probabilities for row in logits]
        np.testing.assert_allclose(shown[level::levels], wanted, rtol=1e-9, atol=1e-12)


def test_the_module_has_the_same_bytes_wherever_it_is_built(tmp_path: Path) -> None:
    elsewhere = tmp_path / "another folder"
    elsewhere.mkdir()
    for source in ENGINE.iterdir():
        (elsewhere / source.name).write_bytes(source.read_bytes())
    assert compile_engine() == compile_engine(elsewhere)


REFUSALS = {
    "a damaged model": ("blob[200] ^= 1; await load(blob, engine)", "a damaged one"),
    "no model": ("await load(new Uint8Array(3), engine)", "this is no model"),
    "a level too many": ("device.run(new Uint8Array(784), 6)", "no such level"),
    "a level that is no number": ("device.run(new Uint8Array(784), 0.5)", "no such level"),
    "a picture too small": ("device.run(new Uint8Array(783), 0)", "783 bytes are not allowed"),
    "a canvas too large": (
        "device.run({data: new Uint8ClampedArray(4), width: 1, height: 1}, 0)",
        "1x1 is not allowed; give 28x28",
    ),
    "an old sample": (
        "const one = device.run(new Uint8Array(784), 0); device.run(new Uint8Array(784), 1);"
        "one.encode()",
        "another picture has been run",
    ),
}


def test_what_cannot_be_run_is_refused_with_a_reason(tmp_path: Path) -> None:
    page = build_module("mnist-binary", tmp_path)
    start = (
        "import {readFileSync} from 'node:fs'; import {load, TaperError} from './taper.js';"
        "const blob = new Uint8Array(readFileSync('mnist-binary.blob'));"
        "const engine = readFileSync('taper.wasm'); const device = await load(blob, engine);"
    )
    tries = "".join(
        f"try {{ {code} }} catch (e) {{ console.log(e instanceof TaperError, e.message) }}\n"
        for code, _ in REFUSALS.values()
    )
    (page / "refusals.js").write_text(start + tries)
    done = subprocess.run(["node", "refusals.js"], cwd=page, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == len(REFUSALS)
    for line, (_, says) in zip(lines, REFUSALS.values(), strict=True):
        assert line.startswith("true ")
        assert says in line


def test_a_colour_canvas_becomes_grey_as_pillow_makes_it(tmp_path: Path) -> None:
    from PIL import Image

    page = build_module("mnist-binary", tmp_path)
    colours = np.random.default_rng(1).integers(0, 256, (28, 28, 3), np.uint8)
    opaque = np.concatenate([colours, np.full((28, 28, 1), 255, np.uint8)], axis=2)
    (page / "rgba.bin").write_bytes(opaque.tobytes())
    (page / "grey.js").write_text(
        "import {readFileSync, writeFileSync} from 'node:fs'; import {load} from './taper.js';"
        "const device = await load(readFileSync('mnist-binary.blob'), readFileSync('taper.wasm'));"
        "const data = new Uint8ClampedArray(readFileSync('rgba.bin'));"
        "writeFileSync('bits.bin', device.run({data, width: 28, height: 28}, 5).raw());"
    )
    subprocess.run(["node", "grey.js"], cwd=page, check=True)
    grey = np.asarray(Image.fromarray(colours).convert("L"))[None, :, :, None]
    wanted = DeviceHalf(read_bundle(bundle_path("mnist-binary"))).run(grey, 5)
    assert (page / "bits.bin").read_bytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("nobody", "--output", "x"), "BUNDLE: 'nobody' is unknown"),
        (("--output", "FILE"), "is not a folder"),
    ],
)
def test_what_cannot_be_built_is_one_line(
    flags: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "FILE"
    file.touch()
    with pytest.raises(SystemExit) as ended:
        main([str(file) if word == "FILE" else word for word in flags])
    assert ended.value.code == UsageError.exit_status
    assert says in capsys.readouterr().err.replace("\n", " ")
