"""Hostile clients: others keep being answered, the server stays small and ends when it is told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import grpc
import psutil
import pytest

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundle import read_bundle
from shared.bundles import bundle_path
from shared.codec import Encoding
from shared.protocol import response_from_message
from tests.benchmarks.serving import bodies
from tests.hostile import DRIPPING, SOURCE, TACTICS, attacking
from tests.served import Served, eventually, serve

MODEL = "mnist-binary-paper"
LIMIT = 200  # streams that one client may hold; 10,000 are tried
POLITE = 40
TIMES = 3
GROWTH_BYTES = 6 * 2**20

Answers = list[tuple[int, int]]


@pytest.fixture(scope="module")
def requests() -> Sequence[bytes]:
    """Serialised requests of one real digit each."""
    return bodies(read_bundle(bundle_path(MODEL)), 1, Encoding.CONTEXT)[:POLITE]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server for all attacks, one after the other; it must end cleanly after them."""
    with serve("--model", MODEL, "--max-streams-per-client", str(LIMIT)) as one:
        yield one


def answers(served: Served, requests: Sequence[bytes]) -> Answers:
    """What a polite client gets, by single calls and by a stream: (id, label), sorted."""
    messages = [pb.InferRequest.FromString(request) for request in requests]
    with grpc.insecure_channel(served.address) as channel:
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        single = [stub.Infer(message, timeout=10) for message in messages]
        streamed = list(stub.InferStream(iter(messages), timeout=10))
    responses = [response_from_message(one) for one in (*single, *streamed)]
    assert not any(response.failure for response in responses), responses
    return sorted((response.id, response.answers[0].label) for response in responses)


def arrived(name: str, served: Served) -> Callable[[], bool]:
    """Whether the attack has reached the server."""
    received = served.sample("taper_bytes_received_total")
    conditions: dict[str, Callable[[], bool]] = {
        "stop reading": lambda: served.sample("taper_streams") == 1,
        "take no answer": lambda: served.sample("taper_streams") == 100,
        "drip": lambda: hostile_connections(served) == DRIPPING,
        "open streams": lambda: served.sample("taper_streams") == LIMIT,
    }
    return conditions.get(name, lambda: served.sample("taper_bytes_received_total") > received)


def hostile_connections(served: Served) -> int:
    """How many connections the server has from the hostile address."""
    open_ones = psutil.Process(served.process.pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr[0].endswith(SOURCE) for one in open_ones)


@pytest.mark.parametrize("name", TACTICS)
def test_others_are_answered_and_nothing_is_left(
    name: str, served: Served, requests: Sequence[bytes]
) -> None:
    process = psutil.Process(served.process.pid)
    expected = answers(served, requests)
    eventually(lambda: served.sample("taper_streams") == 0)
    files = process.num_fds()
    sizes = []
    for _ in range(TIMES):
        here = arrived(name, served)
        with attacking(TACTICS[name], served.address, requests):
            eventually(here)
            assert answers(served, requests) == expected
        eventually(lambda: served.sample("taper_streams") == 0)
        eventually(lambda: hostile_connections(served) == 0)
        eventually(lambda: process.num_fds() <= files)
        sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[0] < GROWTH_BYTES, sizes  # the first time fills what is kept for reuse


def test_the_server_ends_in_the_middle_of_all_attacks(requests: Sequence[bytes]) -> None:
    with (
        contextlib.ExitStack() as attacks,
        serve("--model", MODEL, "--drain-seconds", "1") as served,
    ):
        for tactic in TACTICS.values():
            attacks.enter_context(attacking(tactic, served.address, requests))
        eventually(lambda: served.sample("taper_streams") > 100)
