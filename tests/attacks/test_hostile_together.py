"""All hostile clients at the same time: answers stay right, repeats leave nothing, SIGTERM ends."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import grpc
import psutil
import pytest

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import read_bundle
from shared.protocol.codec import Encoding
from shared.protocol.messages import response_from_message
from tests.benchmarks.serving import bodies
from tests.support.hostile import DRIPPING, SOURCE, TACTICS, attacking
from tests.support.served import Served, eventually, serve

pytestmark = pytest.mark.alone

LIMIT = 200  # streams that one client may hold; 10,000 are tried
POLITE = 40
TIMES = 4
GROWTH_BYTES = 40 * 2**20  # of 39 times the largest was 30 MB above the first; then it fell back

Answers = list[tuple[int, int]]


@pytest.fixture(scope="module")
def requests() -> Sequence[bytes]:
    """Serialised requests of one real digit each."""
    return bodies(read_bundle(bundle_path(DEFAULT_MODEL)), 1, Encoding.CONTEXT)[:POLITE]


def answers(served: Served, requests: Sequence[bytes]) -> Answers:
    """What a polite client gets, by single calls and by a stream: (id, label), sorted."""
    messages = [pb.InferRequest.FromString(request) for request in requests]
    with grpc.insecure_channel(served.address) as channel:
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        single = [stub.Infer(message, timeout=20) for message in messages]
        streamed = list(stub.InferStream(iter(messages), timeout=20))
    responses = [response_from_message(one) for one in (*single, *streamed)]
    assert not any(response.failure for response in responses), responses
    return sorted((response.id, response.answers[0].label) for response in responses)


def hostile_connections(served: Served) -> int:
    """How many connections the server has from the hostile address."""
    open_ones = psutil.Process(served.process.pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr[0].endswith(SOURCE) for one in open_ones)


def attack(served: Served, requests: Sequence[bytes]) -> contextlib.ExitStack:
    """Start every hostile client; returns when they have reached the server."""
    with contextlib.ExitStack() as stack:
        for tactic in TACTICS.values():
            stack.enter_context(attacking(tactic, served.address, requests))
        eventually(lambda: hostile_connections(served) >= DRIPPING)
        eventually(lambda: served.sample("taper_streams") >= LIMIT / 2)
        return stack.pop_all()
    raise AssertionError("an exit stack swallows nothing")


def test_others_are_answered_and_nothing_is_left(requests: Sequence[bytes], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serve("--max-streams-per-client", str(LIMIT), log=log) as served:
        process = psutil.Process(served.process.pid)
        expected = answers(served, requests)
        files = process.num_fds()
        sizes = []
        for _ in range(TIMES):
            with attack(served, requests):
                assert answers(served, requests) == expected
                assert served.sample("taper_streams") <= LIMIT + 1
            eventually(lambda: served.sample("taper_streams") == 0)
            eventually(lambda: hostile_connections(served) == 0)
            eventually(lambda: process.num_fds() <= files)
            sizes.append(process.memory_info().rss)
        assert sizes[-1] - sizes[0] < GROWTH_BYTES, sizes
    assert "Traceback" not in log.read_text()


def test_the_server_ends_in_the_middle_of_it(requests: Sequence[bytes], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with contextlib.ExitStack() as attacks, serve("--drain-seconds", "1", log=log) as served:
        attacks.enter_context(attack(served, requests))
    assert "Traceback" not in log.read_text()
