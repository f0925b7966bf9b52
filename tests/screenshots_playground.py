"""``python -m tests.screenshots_playground``: the pictures of the playground in ``docs/images``."""

from __future__ import annotations

import io
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from tests.support.browser import PHONE, Browser, browser
from tests.support.clouds import free_port
from tests.support.playgrounds import Page, playground
from tests.support.processes import ROOT, start_server

IMAGES = ROOT / "docs" / "images"
DESKTOP = (1180, 1130)
SLIDER_MS = 900


def shot(tab: Browser) -> Image.Image:
    """What the browser shows now."""
    return Image.open(io.BytesIO(tab.driver.get_screenshot_as_png())).convert("RGB")


def written(name: str) -> None:
    sys.stdout.write(f"{name}: {(IMAGES / name).stat().st_size // 1000} KB\n")


def take(folder: Path) -> None:
    """Take all pictures."""
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(start_server("--http-port", str(port)))
        flags = ("--server", f"http://127.0.0.1:{port}")
        url = stack.enter_context(playground(folder / "log", *flags))
        page = Page(stack.enter_context(browser()), url)
        for name, size, dark in (
            ("playground.png", DESKTOP, False),
            ("playground-phone.png", PHONE, True),
        ):
            page.tab.like(size, dark)
            page.open()
            for _ in range(4):
                page.tab.named("digit").click()
            page.answers_alone(False)
            if size is DESKTOP:
                page.tab.named("play").click()
                page.tab.until(lambda: "200 of 200" in page.tab.text("strip-count"))
                page.until_answered()
            page.tab.driver.execute_script("window.scrollTo(0, 0); document.activeElement.blur()")
            picture = shot(page.tab)
            picture.quantize(64, dither=Image.Dither.NONE).save(IMAGES / name, optimize=True)
            written(name)
        film(page)


def film(page: Page) -> None:
    """The device's fraction moved from the narrowest to the widest, as a small film."""
    page.tab.like((1000, 860))
    page.open()
    for _ in range(4):
        page.tab.named("digit").click()
    page.answers_alone(False)
    frames = []
    for level in range(6):
        page.set("d", level)
        page.tab.driver.execute_script("document.activeElement.blur()")
        frames.append(shot(page.tab).quantize(32, dither=Image.Dither.NONE))
    name = "playground.gif"
    frames[0].save(
        IMAGES / name, save_all=True, append_images=frames[1:], duration=SLIDER_MS, loop=0
    )
    written(name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        take(Path(made))
