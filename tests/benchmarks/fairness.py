"""Measures the throughput of a client of small requests beside a client of large ones.

``python -m tests.benchmarks.fairness ADDRESS`` is the large client, with two requests of 1,024
samples in flight until it is ended. The small client has another address, so that the server
counts them as two.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.data.sample import sample_digits
from shared.fractions import level_for
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import LARGEST_BATCH, Encoding, FeatureCodec
from shared.protocol.messages import Request, request_to_message
from tests.benchmarks.load import INFER, INFER_STREAM, Caller
from tests.support.processes import ROOT, environment

SMALL_ADDRESS = "127.0.0.2"
FRACTION = 0.3
LARGE_IN_FLIGHT = 2
SETTLE_S = 0.2
REFUSED_S = 0.01
IN_FLIGHT = (1, 16)


@dataclass
class Shares:
    """By number in flight: rates alone and beside the large client, and latencies beside it, us."""

    alone: dict[int, list[float]] = field(default_factory=dict)
    beside: dict[int, list[float]] = field(default_factory=dict)
    latencies_us: dict[int, list[float]] = field(default_factory=dict)

    def share(self, in_flight: int) -> float:
        """Return the median over the rounds of the rate beside the large client by that alone."""
        pairs = zip(self.beside[in_flight], self.alone[in_flight], strict=True)
        return statistics.median(beside / alone for beside, alone in pairs)


def measure(address: str, bodies: Sequence[bytes], seconds: float, shares: Shares) -> None:
    """Measure one round: the small client alone, then beside the large client."""
    for in_flight in IN_FLIGHT:
        rate, _ = _small(address, bodies, in_flight, seconds)
        shares.alone.setdefault(in_flight, []).append(rate)
    with _large(address):
        for in_flight in IN_FLIGHT:
            rate, latencies = _small(address, bodies, in_flight, seconds)
            shares.beside.setdefault(in_flight, []).append(rate)
            shares.latencies_us.setdefault(in_flight, []).extend(one * 1e6 for one in latencies)


def _small(
    address: str, bodies: Sequence[bytes], in_flight: int, seconds: float
) -> tuple[float, list[float]]:
    caller = Caller(address, INFER_STREAM, bodies, source=SMALL_ADDRESS)
    with contextlib.closing(caller):
        load = caller.stream(in_flight, seconds)
    return load.answered / load.seconds, load.latencies


@contextlib.contextmanager
def _large(address: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.fairness", address],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "answered\n"
        time.sleep(SETTLE_S)
        yield
        assert process.poll() is None, "the large client has ended"
    finally:
        process.kill()
        process.communicate()


def large_request() -> bytes:
    """Make a request with the largest number of samples."""
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    level = level_for(FRACTION, bundle.architecture.device_levels)
    digits = sample_digits()[0]
    images = digits[[place % len(digits) for place in range(LARGEST_BATCH)]]
    features = DeviceHalf(bundle).run(images[..., None], level)
    frame = FeatureCodec(bundle).encode_as(features, level, Encoding.RAW)
    return request_to_message(Request(1, "", "", frame)).SerializeToString()


def answered(call: grpc.UnaryUnaryMultiCallable[bytes, bytes], body: bytes) -> bool:
    """Send a request; False, after a moment, if the client already has its share of the queue."""
    try:
        call(body, timeout=60)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        time.sleep(REFUSED_S)
        return False
    return True


def _run_large(address: str) -> None:
    """Keep two requests of the largest size in flight; prints when the first one was answered."""
    body = large_request()
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
    call = grpc.insecure_channel(address).unary_unary(INFER)

    def ask(told: bool) -> None:
        while True:
            if not answered(call, body):
                continue
            if told:
                sys.stdout.write("answered\n")
                sys.stdout.flush()
                told = False

    for number in range(LARGE_IN_FLIGHT):
        threading.Thread(target=ask, args=(number == 0,)).start()


if __name__ == "__main__":
    _run_large(sys.argv[1])
