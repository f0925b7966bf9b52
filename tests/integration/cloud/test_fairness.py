"""A client of small requests beside a client of large ones, on a real server."""

from __future__ import annotations

import contextlib
import itertools
import threading

import grpc

from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import read_bundle
from shared.protocol.codec import LARGEST_BATCH, Encoding
from tests.benchmarks.fairness import SMALL_ADDRESS, answered, large_request
from tests.benchmarks.load import INFER, INFER_STREAM, Caller
from tests.benchmarks.serving import bodies
from tests.support.processes import start_server

SECONDS = 1.5
LEAST_SMALL = (
    20  # answers to small requests for one of 1,024 samples; 8 when they shared by request
)


def test_small_requests_are_answered_beside_large_ones() -> None:
    small = bodies(read_bundle(bundle_path(DEFAULT_MODEL)), 1, Encoding.CONTEXT)
    body = large_request()
    large = itertools.count()
    stop = threading.Event()
    with start_server("--model", DEFAULT_MODEL) as server:
        with grpc.insecure_channel(server.address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFER)

            def ask() -> None:
                while not stop.is_set():
                    if answered(call, body):
                        next(large)

            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            caller = Caller(server.address, INFER_STREAM, small, source=SMALL_ADDRESS)
            with contextlib.closing(caller):
                load = caller.stream(16, SECONDS)
            stop.set()
            for thread in threads:
                thread.join()
        count = next(large)
    assert count > 2, f"of {LARGEST_BATCH} samples each"
    assert load.answered / count > LEAST_SMALL
