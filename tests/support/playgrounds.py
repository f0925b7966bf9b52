"""The playground as a process, and what a person does on its page."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from cloud.playground.application import LIBRARY, STATIC
from device.web.command import build
from tests.support.browser import Browser
from tests.support.debian import need
from tests.support.fleets import process, wait_for_line
from tests.support.processes import run_client

AXE = Path(str(files("axe_core_python"))) / "axe.min.js"
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
MODEL = "mnist-binary"
# Tests that take seconds each: make test leaves them to make web-check.
long = pytest.mark.skipif(os.environ.get("TAPER_WEB") != "full", reason="make web-check runs it")


@contextmanager
def playground(log: Path, *flags: str, fleet: bool = False) -> Iterator[str]:
    """``python -m cloud.playground`` on a free port, its device half built; yields its address.

    With ``fleet`` it needs the library for brokers: tests are skipped where npm cannot fetch it.
    """
    need("web", "clang", "wasm-ld")
    build(STATIC / "device", MODEL, fleet)
    if fleet and not (STATIC / "device" / LIBRARY).exists():
        pytest.skip("npm could not fetch the library for brokers")
    with process("cloud.playground", "--port", "0", *flags, log=log) as running:
        yield wait_for_line(running, "playground on").split()[-1]


class Page:
    """The page in a browser."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.tab = browser
        self.url = url

    def open(self) -> None:
        """Load the page and wait until the first picture has its answer."""
        self.tab.open(self.url)
        self.until_answered()

    def until_answered(self) -> None:
        """Wait until the answer belongs to the picture."""
        script = "return document.body.dataset.state"
        self.tab.until(lambda: self.tab.driver.execute_script(script) == "answered")

    def seen(self) -> npt.NDArray[np.uint8]:
        """What the network sees (28, 28)."""
        script = "return document.getElementById('seen').toDataURL('image/png').split(',')[1]"
        file = base64.b64decode(self.tab.driver.execute_script(script))
        return np.asarray(Image.open(io.BytesIO(file)).convert("L"))

    def set(self, name: str, value: int) -> None:
        """Move a slider."""
        script = (
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
        )
        self.tab.driver.execute_script(script, self.tab.named(name), value)
        self.until_answered()

    def answers_alone(self, wanted: bool) -> None:
        """Switch the exit head."""
        self._switch("exit", wanted)

    def looks_twice(self, wanted: bool) -> None:
        """Switch second looks."""
        self._switch("second", wanted)

    def _switch(self, name: str, wanted: bool) -> None:
        box = self.tab.named(name)
        if box.is_selected() != wanted:
            box.click()
        self.until_answered()

    def choose_file(self, path: Path) -> None:
        """Give the page a file."""
        self.tab.driver.find_element(By.CSS_SELECTOR, "[data-testid=file]").send_keys(str(path))

    def percents(self, name: str) -> list[float]:
        """The probabilities that an answer's bars show."""
        script = "return [...arguments[0].children].map(item => item.lastElementChild.textContent)"
        texts = self.tab.driver.execute_script(script, self.tab.named(name))
        return [float(text.split(": ")[1].rstrip("%")) / 100 for text in texts]

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page, serious or worse."""
        self.tab.driver.execute_script(AXE.read_text())
        script = "const done = arguments[0]; axe.run().then(found => done(JSON.stringify(found)))"
        found: Any = json.loads(self.tab.driver.execute_async_script(script))
        return [
            f"{one['id']}: {node['html']}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


def client_answer(address: str, picture: npt.NDArray[np.uint8], folder: Path, *flags: str) -> Any:
    """What ``python -m device.client`` says of a picture (28, 28)."""
    path = folder / "picture.png"
    Image.fromarray(picture).save(path)
    words = ("--input", str(path), "--server", address, "--output", "json", "--top-k", "10")
    done = run_client(*words, *flags, model=MODEL)
    assert done.status == 0, done.err
    return done.document["samples"][0]
