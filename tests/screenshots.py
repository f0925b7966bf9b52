"""``python -m tests.screenshots``: the pictures of the dashboard in ``docs/images``.

A real broker, cloud server, controller and fleet of 50 devices that live through a city's day.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.broker import mosquitto
from tests.support.browser import PHONE, browser, dashboard
from tests.support.clouds import free_port
from tests.support.fleets import process
from tests.support.processes import ROOT, start_server

IMAGES = ROOT / "docs" / "images"
DEVICES = 50
LIVED_S = 45  # at 240 times the speed of a clock: three hours
DESKTOP = (1280, 1240)
DEVICE = (1280, 700)


def take(folder: Path) -> None:
    """Take all pictures."""
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(folder / "broker"))
        metrics = free_port()
        server = stack.enter_context(start_server("--metrics-port", str(metrics)))
        common = ("--broker", broker.url, "--speed", "240")
        fleet = ["--devices", str(DEVICES), "--server", server.address, "--seed", "1"]
        fleet += ["--scenario", "city-day", "--ledger", str(folder / "ledger")]
        stack.enter_context(process("device.fleet", *common, *fleet, log=folder / "log"))
        store = ("--store", str(folder / "store.sqlite"))
        words = ("run", "city-day", *common, "--devices", str(DEVICES), *store)
        stack.enter_context(process("cloud.fleet", *words, log=folder / "log"))
        page = f"http://127.0.0.1:{metrics}/metrics"
        flags = ("--broker", broker.url, "--metrics", page, *store)
        url = stack.enter_context(dashboard(folder / "log", *flags))
        tab = stack.enter_context(browser())
        tab.open(url)
        tab.until(lambda: tab.text("online") == str(DEVICES), 60)
        time.sleep(LIVED_S)
        for name, address, size, dark in (
            ("dashboard.png", url, DESKTOP, False),
            ("dashboard-phone.png", url, PHONE, True),
            ("dashboard-device.png", f"{url}/device/device-00019", DEVICE, False),
        ):
            tab.like(size, dark)
            tab.open(address)
            time.sleep(6)
            (IMAGES / name).write_bytes(tab.driver.get_screenshot_as_png())
            sys.stdout.write(f"{name}: {(IMAGES / name).stat().st_size // 1000} KB\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        take(Path(made))
