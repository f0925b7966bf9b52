"""The engine's WebAssembly module: built, run in Node, and run in a browser."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.web.command import build
from tests.support.boards import RUN_S, Result, read_results
from tests.support.browser import Browser

SCRIPTS = Path(__file__).parent / "web"
EXERCISE, RESULTS = SCRIPTS / "exercise.js", SCRIPTS / "results.js"
# For a page that the playground serves: the model, ready as `device`.
LOADED = """
const folder = '/static/device/';
const {load} = await import(folder + 'taper.js');
const blob = new Uint8Array(await (await fetch(folder + MODEL + '.blob')).arrayBuffer());
const device = await load(blob, await fetch(folder + 'taper.wasm'));
"""


def build_module(name: str, folder: Path) -> Path:
    """A folder with everything that a page loads for a shipped bundle."""
    output = folder / "page"
    build(output, name, fleet=False)
    (output / "package.json").write_text('{"type": "module"}')  # or Node takes .js for CommonJS
    return output


def run_in_node(
    page: Path, name: str, images: npt.NDArray[np.uint8]
) -> tuple[list[Result], list[list[float]]]:
    """Results by image, then by level, and the exit head's probabilities for each."""
    (page / "pictures.bin").write_bytes(images.tobytes())
    for script in (EXERCISE, RESULTS):
        shutil.copyfile(script, page / script.name)
    made = ("pictures.bin", "results.bin", "probabilities.json")
    words = [EXERCISE.name, "taper.wasm", f"{name}.blob", f"{name}.json", *made]
    subprocess.run(["node", *words], check=True, cwd=page, timeout=RUN_S)
    shares = json.loads((page / "probabilities.json").read_text())
    return read_results((page / "results.bin").read_bytes()), shares


def in_browser(browser: Browser, body: str, *arguments: object) -> Any:
    """What ``body``, JavaScript that has the model as ``device``, returns on the playground."""
    script = f"""
        const given = [...arguments];
        const done = given.pop();
        const run = async ([MODEL, ...given]) => {{ {LOADED} {body} }};
        run(given).then(done, (error) => done(String(error)));
    """
    return browser.driver.execute_async_script(script, *arguments)


def run_in_browser(browser: Browser, name: str, images: npt.NDArray[np.uint8]) -> list[Result]:
    """Results by image, then by level, on the playground's page."""
    body = (
        RESULTS.read_text().replace("export ", "")
        + """
        const images = Uint8Array.from(atob(given[0]), (letter) => letter.charCodeAt(0));
        const url = await new Promise((resolve) => {
          const reader = new FileReader();
          reader.onload = () => resolve(reader.result);
          reader.readAsDataURL(new Blob(results(device, images)));
        });
        return url.split(',')[1];
        """
    )
    browser.driver.set_script_timeout(RUN_S)
    found = in_browser(browser, body, name, base64.b64encode(images.tobytes()).decode())
    return read_results(base64.b64decode(found))
