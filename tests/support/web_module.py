"""The engine's WebAssembly module: built, and run in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.web.command import build
from tests.support.boards import RUN_S, Result, read_results

EXERCISE = Path(__file__).parent / "web" / "exercise.js"


def build_module(name: str, folder: Path) -> Path:
    """A folder with everything that a page loads for a shipped bundle."""
    output = folder / "page"
    build(output, name)
    (output / "package.json").write_text('{"type": "module"}')  # or Node takes .js for CommonJS
    return output


def run_in_node(
    page: Path, name: str, images: npt.NDArray[np.uint8]
) -> tuple[list[Result], list[list[float]]]:
    """Results by image, then by level, and the exit head's probabilities for each."""
    (page / "pictures.bin").write_bytes(images.tobytes())
    shutil.copyfile(EXERCISE, page / EXERCISE.name)
    made = ("pictures.bin", "results.bin", "probabilities.json")
    words = [EXERCISE.name, "taper.wasm", f"{name}.blob", f"{name}.json", *made]
    subprocess.run(["node", *words], check=True, cwd=page, timeout=RUN_S)
    shares = json.loads((page / "probabilities.json").read_text())
    return read_results((page / "results.bin").read_bytes()), shares
