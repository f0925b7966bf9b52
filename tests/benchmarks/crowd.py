"""Load by many devices, each with a connection and an open stream with one request at a time.

Each device sends at a steady rate, from a random moment on, or as soon as it has its answer.
Latency counts from the moment when a request was due.
"""

from __future__ import annotations

import random
import selectors
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.benchmarks.load import Load
from tests.support.http2 import DATA, GOAWAY, RST_STREAM, Http2

INFER_STREAM = "/taper.split.v1.SplitInference/InferStream"
AT_ONCE = 200  # gRPC refuses streams at random while more than 1,000 wait to be accepted
ANSWER_S = 30.0  # a server that does not answer within this time has failed


class Device:
    """One connection. ``due_s`` is when the request under way should have been sent."""

    def __init__(self, address: str) -> None:
        self.connection = Http2(address, INFER_STREAM, {"user-agent": "taper-crowd"})
        self.stream, head = self.connection.open()
        self.connection.send(head)
        self.due_s = 0.0
        self.waiting = False

    def ask(self, body: bytes, due_s: float) -> None:
        """Send a request."""
        self.due_s, self.waiting = due_s, True
        self.connection.send(self.connection.message(self.stream, body))

    def answered(self) -> bool:
        """Read what has arrived; return whether the answer, which is a single frame, was in it."""
        came = False
        for one in self.connection.receive():
            if one.kind in (RST_STREAM, GOAWAY):
                raise ConnectionResetError(
                    f"the server ended the stream ({one.kind}: {one.payload!r})"
                )
            came = came or one.kind == DATA
        return came and self.waiting


class Crowd:
    """``count`` devices that are connected to ``address`` within a ``with`` block."""

    def __init__(self, address: str, count: int, bodies: Sequence[bytes]) -> None:
        self._selector = selectors.DefaultSelector()
        self._bodies = bodies
        self._sent = 0
        self._devices: list[Device] = []
        self.lateness_s: list[float] = []  # from when requests were due to when they were sent
        for first in range(0, count, AT_ONCE):
            self._connect(address, min(AT_ONCE, count - first))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._selector.close()
        for device in self._devices:
            device.connection.close()

    def busy(self, seconds: float) -> Load:
        """Let every device send its next request as soon as it has its answer."""
        load = Load()
        began = time.perf_counter()
        for device in self._devices:
            self._ask(device, began)
        waiting = len(self._devices)
        while waiting:
            for device in self._ready(ANSWER_S):
                now = self._take(device, load)
                if now - began < seconds:
                    self._ask(device, now)
                else:
                    waiting -= 1
        load.seconds = time.perf_counter() - began
        return load

    def steady(self, per_second: float, seconds: float) -> Load:
        """Let every device send ``per_second`` requests a second; one that still waits skips a
        turn.
        """
        load = Load()
        began = time.perf_counter()
        period = 1 / per_second
        draw = random.Random(0)
        moments = sorted((draw.random() * period, place) for place in range(len(self._devices)))
        agenda = deque((began + moment, self._devices[place]) for moment, place in moments)
        waiting = 0
        end = began + seconds
        while agenda or waiting:
            now = time.perf_counter()
            while agenda and agenda[0][0] <= now:
                due, device = agenda.popleft()
                if not device.waiting:
                    self.lateness_s.append(time.perf_counter() - due)
                    self._ask(device, due)
                    waiting += 1
                if due + period < end:
                    agenda.append((due + period, device))
            pause = agenda[0][0] - time.perf_counter() if agenda else ANSWER_S
            for device in self._ready(max(pause, 0.0), patient=not agenda):
                self._take(device, load)
                waiting -= 1
        load.seconds = time.perf_counter() - began
        return load

    def _connect(self, address: str, count: int) -> None:
        """Connect ``count`` more devices; each sends a request, so that its stream is open."""
        made = [Device(address) for _ in range(count)]
        for device in made:
            self._selector.register(device.connection.socket, selectors.EVENT_READ, device)
            self._ask(device, time.perf_counter())
        while any(device.waiting for device in made):
            for device in self._ready(ANSWER_S):
                device.waiting = False
        self._devices += made

    def _ready(self, limit_s: float, patient: bool = True) -> list[Device]:
        """Return the devices whose answer has come, after at most ``limit_s``."""
        events = self._selector.select(limit_s)
        if not events and patient:
            raise TimeoutError(f"no answer within {ANSWER_S:g} s")
        return [key.data for key, _ in events if key.data.answered()]

    def _ask(self, device: Device, due_s: float) -> None:
        self._sent += 1
        device.ask(self._bodies[self._sent % len(self._bodies)], due_s)

    def _take(self, device: Device, load: Load) -> float:
        now = time.perf_counter()
        device.waiting = False
        load.latencies.append(now - device.due_s)
        load.answered += 1
        return now
