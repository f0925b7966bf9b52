"""``python -m tests.benchmarks.hostile``: how much hostile clients slow down a polite one.

A polite client has 16 requests in flight on a stream of one server, in alternating slices with and
without each hostile client. All clients have tokens of their own.
"""

from __future__ import annotations

import contextlib
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import read_bundle
from shared.protocol.codec import Encoding
from tests.benchmarks.harness import Check, Report, main, ratio, table
from tests.benchmarks.load import INFER_STREAM, Caller
from tests.benchmarks.serving import bodies, cpus, started
from tests.support.http2 import Http2

TOKENS = "polite polite-token-0123456789\nrude rude-token-0123456789\n"
RUDE = {"authorization": "Bearer rude-token-0123456789"}
POLITE = {"authorization": "Bearer polite-token-0123456789"}
IN_FLIGHT, SECONDS, ROUNDS = 16, 0.5, 10
STREAMS = 10_000
TARGET = 0.9
SETTLE_S, SETTLE_SLICES = 0.1, 30

Hostile = Callable[[str, Sequence[bytes]], contextlib.AbstractContextManager[None]]


@contextmanager
def deaf(address: str, requests: Sequence[bytes]) -> Iterator[None]:
    """Open a stream, send as much as flow control allows, and read nothing."""
    connection = Http2(address, INFER_STREAM, RUDE, window=64)
    stream, head = connection.open()
    data = [head]
    while min(connection.window, connection.stream_windows[stream]) > 1000:
        data.append(connection.message(stream, requests[0]))
    connection.send(b"".join(data))
    yield
    connection.close()


@contextmanager
def slow(address: str, requests: Sequence[bytes]) -> Iterator[None]:
    """Send a byte a second."""
    connection = Http2(address, INFER_STREAM, RUDE)
    stream, head = connection.open()
    rest = connection.message(stream, requests[0])
    over = threading.Event()

    def drip() -> None:
        connection.send(head)
        for place in range(len(rest)):
            if over.wait(1.0):
                return
            connection.send(rest[place : place + 1])

    with _thread(drip, over):
        yield
    connection.close()


@contextmanager
def greedy(address: str, requests: Sequence[bytes]) -> Iterator[None]:
    """Open ten thousand streams, above any limit, and keep them open."""
    connection = Http2(address, INFER_STREAM, RUDE)
    over = threading.Event()

    def swallow() -> None:
        connection.socket.settimeout(0.2)
        while not over.is_set():
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                for _ in connection.receive():
                    pass

    with _thread(swallow, over):
        for _ in range(0, STREAMS, 500):
            connection.send(b"".join(connection.open()[1] for _ in range(500)))
        time.sleep(1.0)
        yield
    connection.close()


@contextmanager
def fickle(address: str, requests: Sequence[bytes]) -> Iterator[None]:
    """Connect twenty times a second and reset each connection in the middle of a request."""
    over = threading.Event()

    def come_and_go() -> None:
        while not over.wait(0.05):
            connection = Http2(address, INFER_STREAM, RUDE)
            stream, head = connection.open()
            whole = connection.message(stream, requests[0])
            connection.send(head + whole[: len(whole) // 2])
            connection.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: a reset
            connection.close()

    with _thread(come_and_go, over):
        yield


@contextmanager
def _thread(work: Callable[[], None], over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


CLIENTS: dict[str, Hostile] = {
    "stops reading": deaf,
    "a byte a second": slow,
    "10,000 streams": greedy,
    "goes away in mid-request": fickle,
}


def measure(address: str, requests: Sequence[bytes]) -> float:
    """Measure the requests a second of the polite client."""
    caller = Caller(address, INFER_STREAM, requests, POLITE)
    try:
        load = caller.stream(IN_FLIGHT, SECONDS)
    finally:
        caller.close()
    return load.answered / load.seconds


def settle(process: psutil.Process) -> None:
    """Wait until the server is idle, at most a few seconds."""
    for _ in range(SETTLE_SLICES):
        before_s = sum(process.cpu_times()[:2])
        time.sleep(SETTLE_S)
        if sum(process.cpu_times()[:2]) - before_s < 0.2 * SETTLE_S:
            return


def run(full: bool) -> Report:
    """Measure with each hostile client; ``full`` takes three times the rounds."""
    requests = bodies(read_bundle(bundle_path(DEFAULT_MODEL)), 1, Encoding.CONTEXT)
    results: dict[str, Any] = {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        tokens.write_text(TOKENS)
        flags = ("--host", "127.0.0.1", "--port", "0", "--token-file", str(tokens))
        for name, hostile in CLIENTS.items():
            with started(cpus()[0], "cloud.server", *flags) as (process, address):
                alone, beside = [], []
                for _ in range(ROUNDS * (3 if full else 1)):
                    alone.append(measure(address, requests))
                    with hostile(address, requests):
                        beside.append(measure(address, requests))
                    settle(process)  # cleaning up must not slow down the slice without it
            results[name] = {
                "alone_per_s": round(statistics.median(alone)),
                "beside_per_s": round(statistics.median(beside)),
                "ratio": round(ratio(beside, alone), 3),
            }
            rows.append((name, *(str(value) for value in results[name].values())))
            sys.stderr.write(f"{name}: {results[name]['ratio']:.3f}\n")
    worst = min(result["ratio"] for result in results.values())
    checks = [Check("worst_beside_vs_alone", worst, "", TARGET, "higher")]
    heads = ("hostile client", "alone, requests/s", "beside it", "ratio")
    return Report(results, checks, [table("a polite client beside a hostile one", heads, rows)])


if __name__ == "__main__":
    main("hostile", str(__doc__).splitlines()[0], run)
