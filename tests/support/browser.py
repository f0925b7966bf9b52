"""A real headless Chromium, and a dashboard process for it to look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.clouds import free_port
from tests.support.fleets import process, wait_for_line
from tests.support.processes import ROOT

PATIENCE_S = 90.0  # a machine can be busy
DESKTOP = (1280, 1380)
PHONE = (390, 844)


def need_browser() -> None:
    """Install it where we may; else skip, or fail where CI says that nothing may skip."""
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return
    done = subprocess.run([ROOT / "scripts/system-deps", "browser"], capture_output=True, text=True)
    if done.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(done.stderr.strip())
        pytest.skip(done.stderr.strip())


class Browser:
    """One tab, and what a person does in it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go to a page and wait until it has content."""
        self.driver.get(url)
        self.until(lambda: bool(self.driver.find_elements(By.CSS_SELECTOR, "header")))

    def named(self, name: str) -> WebElement:
        """The element with this test id."""
        return self.driver.find_element(By.CSS_SELECTOR, f"[data-testid={name}]")

    def press(self, name: str) -> None:
        """Click on the element with this test id, once it is there and nothing covers it."""
        self.press_on(By.CSS_SELECTOR, f"[data-testid={name}]")

    def press_on(self, by: str, what: str) -> None:
        """Click on the element that is found so; menus and dialogs take a moment to open."""

        def pressed() -> bool:
            try:
                self.driver.find_element(by, what).click()
            except (
                NoSuchElementException,
                StaleElementReferenceException,
                ElementNotInteractableException,
                ElementClickInterceptedException,
            ):
                return False
            return True

        self.until(pressed)

    def text(self, name: str) -> str:
        """Its text."""
        try:
            return self.named(name).text
        except StaleElementReferenceException:
            return ""

    def page(self) -> str:
        """All text of the page."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def until(self, holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Wait until ``holds``; fails with the page's text."""
        end_s = time.monotonic() + patience_s
        while not holds():
            if time.monotonic() > end_s:
                raise AssertionError(f"the page never got there; it says:\n{self.page()}")
            time.sleep(0.1)

    def errors(self) -> list[str]:
        """Errors on the console since the last call."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def like(self, size: tuple[int, int], dark: bool = False) -> None:
        """From now on a screen of this size; one narrower than a hand is a phone's."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        metrics["mobile"] = width < 500
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


@contextmanager
def browser(*flags: str) -> Iterator[Browser]:
    """A browser that runs while the block does, with more ``flags`` of Chromium."""
    need_browser()
    options = webdriver.ChromeOptions()
    own = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars")
    for word in (*own, *flags):
        options.add_argument(word)
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(str(shutil.which("chromedriver")))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        made = Browser(driver)
        made.like(DESKTOP)
        yield made
    finally:
        driver.quit()


@contextmanager
def dashboard(log: Path, *flags: str) -> Iterator[str]:
    """``python -m cloud.dashboard`` on a free port; yields its address."""
    words = ["--port", str(free_port()), *flags]
    with process("cloud.dashboard", *words, log=log) as running:
        yield wait_for_line(running, "dashboard on").split()[-1]
