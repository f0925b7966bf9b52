"""Measures what one open page of the dashboard costs with 5,000 devices.

    python -m tests.benchmarks.fleet_page

One client publishes the births of 5,000 devices, and a message of telemetry for each every 30 s, to
a real broker. A headless browser has the page open. The dashboard's process is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from shared.fleet.broker import BrokerClient
from shared.fleet.messages import PROTOCOL, Birth, Telemetry
from shared.fleet.payloads import dump
from tests.support.broker import Mosquitto, mosquitto
from tests.support.browser import browser
from tests.support.clouds import free_port
from tests.support.fleets import process, wait_for_line

DEVICES = 5000
PERIOD_S = 30.0
SETTLE_S, MEASURE_S = 15.0, 30.0
EVERY_S = 0.1


def birth(number: int) -> tuple[str, bytes]:
    """Return topic and payload of a device's birth."""
    name = f"device-{number:05d}"
    message = Birth(name, 1, 1, time.time(), PROTOCOL, (f"group-{number % 8}",), epoch="e1")
    return f"taper/v1/default/{name}/birth", dump(message)


def telemetry(number: int, sequence: int) -> tuple[str, bytes]:
    """Return topic and payload of a message of telemetry."""
    name = f"device-{number:05d}"
    message = Telemetry(
        name, 1, sequence, time.time(), PERIOD_S, battery=(number % 100) / 100, fraction=0.3,
        cloud_fraction=1.0, answered_device=20 + number % 7, answered_cloud=5, labelled=25,
        right=24, payload_bytes=150, energy_j=0.03, latency_ms=4.0, latency_max_ms=20.0,
        model="mnist-binary", epoch="e1", exits_asked=25, exit_confidence=0.9,
    )  # fmt: skip
    return f"taper/v1/default/{name}/telemetry", dump(message)


async def publish(broker: Mosquitto, devices: int, ended: threading.Event) -> None:
    """Publish births, then telemetry until ``ended``."""
    async with BrokerClient(broker.broker, "devices", lambda *_: None, session_s=0) as client:
        for number in range(devices):
            topic, payload = birth(number)
            await client.post(topic, payload, retain=True)
        numbers = itertools.cycle(range(devices))
        sent, began_s = 0, time.monotonic()
        while not ended.is_set():
            due = int((time.monotonic() - began_s) * devices / PERIOD_S)
            for _ in range(due - sent):
                topic, payload = telemetry(next(numbers), sent // devices + 1)
                client.post(topic, payload)
                sent += 1
            await asyncio.sleep(EVERY_S)


def page_cpu(devices: int = DEVICES) -> float:
    """Return the share of a core that the dashboard uses with one page open."""
    ended = threading.Event()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(mosquitto(folder / "broker"))
        sending = threading.Thread(target=lambda: asyncio.run(publish(broker, devices, ended)))
        sending.start()
        stack.callback(sending.join)
        stack.callback(ended.set)
        words = ["--broker", broker.url, "--port", str(free_port())]
        running = stack.enter_context(process("cloud.dashboard", *words, log=folder / "log"))
        url = wait_for_line(running, "dashboard on").split()[-1]
        tab = stack.enter_context(browser())
        tab.open(url)
        tab.until(lambda: tab.text("online") == str(devices), 120)
        time.sleep(SETTLE_S)
        subject = psutil.Process(running.pid)
        before, began_s = subject.cpu_times(), time.monotonic()
        time.sleep(MEASURE_S)
        after, seconds = subject.cpu_times(), time.monotonic() - began_s
    return float(after.user + after.system - before.user - before.system) / seconds


def main() -> None:
    """Print the share of a core."""
    sys.stdout.write(f"dashboard_5000_cpu {page_cpu():.3f}\n")


if __name__ == "__main__":
    main()
