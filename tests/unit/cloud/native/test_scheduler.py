"""The scheduler of fronts in C++: the same answers and refusals as the Python front, from bytes."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from cloud.models.job import Job
from cloud.models.served import ServedModel
from cloud.native import Dispatcher, Outcome, Scheduler, StreamState, Ticket
from protos.split.v1 import split_pb2 as pb
from shared.bundles import bundle_path
from shared.model.bundle import make_bundle, read_bundle
from shared.packed import CloudHalf, DeviceHalf, kernels
from shared.protocol.codec import Encoding, FeatureCodec, Frame
from shared.protocol.messages import Looks, Request, request_to_message
from tests.support.dispatchers import dispatcher

pytestmark = pytest.mark.skipif(
    kernels.current() == kernels.NUMPY, reason="needs the compiled kernels"
)
BUNDLE = read_bundle(bundle_path("mnist-binary"))
LEVEL, WIDEST = 1, len(BUNDLE.architecture.cloud_levels) - 1
INVALID, LATE, FULL, UNAVAILABLE = 3, 4, 8, 14  # status codes of gRPC
DEAR_S = 0.02  # of a sample: too dear to run at once
CHEAP_S = 1e-6  # of a sample: cheap enough, whatever a slow machine or a sanitizer measured


class Front:
    """A scheduler with threads, and the outcomes that came later."""

    def __init__(self, dispatched: Dispatcher, threads: int = 2) -> None:
        self.dispatched = dispatched
        self.scheduler = Scheduler(dispatched, threads)
        self.model = ServedModel(BUNDLE)
        self.later: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def ask(
        self,
        request: Request,
        client: str = "a",
        remaining_s: float | None = None,
        stream: StreamState | None = None,
    ) -> Outcome | Ticket | None:
        data = request_to_message(request).SerializeToString()
        return self.scheduler.infer(data, client, remaining_s, stream, self.later.put)

    def outcome(self, request: Request, stream: StreamState | None = None) -> Outcome:
        """What comes of a request, at once or later."""
        begun = self.ask(request, stream=stream)
        if isinstance(begun, Outcome):
            return begun
        assert begun is not None
        return self.later.get(timeout=60)

    def teach(self, sample_s: float) -> None:
        """Make the model believe that a sample takes so long."""
        for level in range(len(BUNDLE.architecture.device_levels)):
            for cloud_level in range(WIDEST + 1):
                for _ in range(200):
                    self.model.costs.learn_decode(Encoding.RAW, level, 1, CHEAP_S)
                    self.model.costs.learn_run(level, cloud_level, 1, sample_s)
                    self.model.costs.learn_run(level, cloud_level, 32, 32 * sample_s)
        self.scheduler.serve([self.model.native])


@pytest.fixture
def front() -> Iterator[Front]:
    made = Front(dispatcher())
    made.model.warm_up()
    made.scheduler.serve([made.model.native])
    yield made
    made.scheduler.stop()


@pytest.fixture
def stopped() -> Iterator[Front]:
    """One without a thread: what is queued stays there."""
    made = Front(Dispatcher(32, 1e-3, 1.0, 64, None, 1), 0)
    made.teach(DEAR_S)
    yield made
    made.scheduler.stop()


def sent(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    digits = np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), np.uint8)
    return DeviceHalf(BUNDLE).run(digits, LEVEL)


def asked(count: int = 1, encoding: Encoding = Encoding.RAW, seed: int = 0) -> Request:
    frame = FeatureCodec(BUNDLE).encode_as(sent(count, seed), LEVEL, encoding)
    return Request(7, "", "", frame)


def labels(outcome: Outcome) -> list[int]:
    assert outcome.status == 0, outcome.message
    response = pb.InferResponse.FromString(outcome.response)
    assert response.id == 7
    return [result.label for result in response.results]


def expected(count: int, cloud_level: int = WIDEST, seed: int = 0) -> list[int]:
    logits = CloudHalf(BUNDLE).run(sent(count, seed), LEVEL, cloud_level)
    return [int(label) for label in logits.argmax(axis=1)]


@pytest.mark.parametrize("encoding", [Encoding.RAW, Encoding.CONTEXT])
@pytest.mark.parametrize("count", [1, 40, 200])
@pytest.mark.parametrize("pinned", [None, 0])
def test_every_request_gets_the_labels_of_the_cloud_half(
    front: Front, encoding: Encoding, count: int, pinned: int | None
) -> None:
    request = asked(count, encoding)._replace(cloud_level=pinned)
    outcome = front.outcome(request)
    level = pb.InferResponse.FromString(outcome.response).cloud_level
    assert pinned is None or level == pinned
    assert labels(outcome) == expected(count, level)


def test_cheap_requests_are_answered_at_once_and_dear_ones_wait(front: Front) -> None:
    front.teach(CHEAP_S)
    assert isinstance(front.ask(asked()), Outcome)
    dear = Front(front.dispatched)
    dear.teach(DEAR_S)
    begun = [dear.ask(asked(seed=seed)) for seed in range(20)]
    assert isinstance(begun[0], Ticket)  # until the model has learnt better
    waiting = sum(isinstance(one, Ticket) for one in begun)
    got = [one for one in begun if isinstance(one, Outcome)]
    got.extend(dear.later.get(timeout=60) for _ in range(waiting))
    dear.scheduler.stop()
    assert sorted(map(labels, got)) == sorted(expected(1, seed=seed) for seed in range(20))


@pytest.mark.parametrize(
    "request_",
    [
        asked()._replace(frame=Frame(LEVEL, 1, Encoding.ZSTD_DICT, bytes(9))),
        asked()._replace(model="another"),
        asked()._replace(version="0123"),
        asked()._replace(version="0" * 64),
        asked()._replace(cloud_level=99),
        asked()._replace(frame=Frame(99, 1, Encoding.RAW, bytes(9))),
        asked()._replace(frame=Frame(LEVEL, 1, Encoding.RAW, bytes(9))),
        asked()._replace(frame=Frame(LEVEL, 1025, Encoding.CONTEXT, bytes(9))),
        asked()._replace(frame=Frame(LEVEL, 1, Encoding.CONTEXT, bytes(10_000))),
        asked()._replace(looks=Looks(next_level=LEVEL)),
    ],
)
def test_what_is_wrong_or_unknown_is_left_to_python(front: Front, request_: Request) -> None:
    assert front.ask(request_) is None
    assert front.scheduler.infer(b"\xff", "a", None, None, front.later.put) is None
    assert front.dispatched.queued == (0, 0)


def test_a_payload_that_cannot_be_decoded_is_refused_and_teaches_nothing(front: Front) -> None:
    broken = asked()._replace(frame=Frame(LEVEL, 100, Encoding.CONTEXT, bytes(range(200))))
    unused = bytearray(asked().frame.payload)
    outcome = front.outcome(broken)
    assert outcome.status == INVALID
    assert outcome.message == (
        f"payload: is not what the context coder gives for 100 samples of level {LEVEL}"
    )
    assert front.dispatched.counters()["refusals"] == {"invalid": 1}
    if BUNDLE.architecture.sent_shape(LEVEL).size % 8:
        unused[-1] |= 0x80
        frame = Frame(LEVEL, 1, Encoding.RAW, bytes(unused))
        outcome = front.outcome(asked()._replace(frame=frame))
        assert outcome.message == "payload: the unused bits after a sample must be 0"


def test_a_full_queue_and_a_short_deadline_are_refused_at_once(stopped: Front) -> None:
    for client in ("a", "b"):
        assert isinstance(stopped.ask(asked(), client), Ticket)
    late = stopped.ask(asked(), "c", 1e-3)
    assert isinstance(late, Outcome)
    assert (late.status, late.retry_after_ms, late.id) == (LATE, 0, 7)
    while isinstance(refused := stopped.ask(asked(), "a"), Ticket):
        pass
    assert refused is not None
    assert refused.status == FULL
    assert refused.retry_after_ms > 0
    failure = pb.InferResponse.FromString(refused.failure_response()).failure
    assert (failure.code, failure.message) == (FULL, refused.message)
    assert failure.retry_after_ms == refused.retry_after_ms


def test_what_is_withdrawn_is_never_answered_and_a_stop_answers_the_rest(stopped: Front) -> None:
    first, second = stopped.ask(asked()), stopped.ask(asked(3))
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    assert stopped.scheduler.withdraw(first)
    assert not stopped.scheduler.withdraw(first)
    assert stopped.dispatched.queued == (1, 3)
    stopped.scheduler.stop()
    assert stopped.later.get(timeout=60).status == UNAVAILABLE
    assert stopped.later.empty()
    assert stopped.dispatched.queued == (0, 0)


def test_a_stream_remembers_the_model_and_refuses_a_look_that_comes_twice(front: Front) -> None:
    names = tuple(reversed(BUNDLE.metadata.class_names))
    second = ServedModel(make_bundle(replace(BUNDLE.metadata, class_names=names), BUNDLE.tensors))
    front.scheduler.serve([front.model.native, second.native])
    stream = StreamState()
    named = asked()._replace(model=second.name, version=second.version[:8].upper())
    front.outcome(named, stream)
    front.outcome(asked(), stream)
    assert stream.named() == (named.model, named.version)
    assert second.statistics.requests + front.model.statistics.requests == 0  # not yet counted
    front.dispatched.account(0.0)
    assert (second.statistics.requests, front.model.statistics.requests) == (2, 0)
    first_look = asked()._replace(looks=Looks(next_level=LEVEL + 1, ask_below=2**62))
    assert pb.InferResponse.FromString(front.outcome(first_look, stream).response).HasField("more")
    later = asked()._replace(looks=Looks(earlier=1))
    assert front.outcome(later, stream).status == 0
    twice = front.outcome(later, stream)
    assert (twice.status, twice.message) == (
        INVALID,
        "looks: request 7 has had its second look",
    )
    named_counts = front.dispatched.counters()["named"]
    assert named_counts == {"looks_asked": 1, "second_looks": 1, "second_looks_refused": 1}


def test_a_replaced_model_finishes_what_it_began(stopped: Front) -> None:
    begun = stopped.ask(asked(40))
    assert isinstance(begun, Ticket)
    stopped.scheduler.serve([])
    assert stopped.ask(asked()) is None
    stopped.dispatched.tick(0.0, 0.0, 0.0)
    helper = Scheduler(stopped.dispatched, 1)  # its thread takes what waits
    outcome = stopped.later.get(timeout=60)
    helper.stop()
    assert labels(outcome) == expected(40)


def test_both_fronts_share_one_account(stopped: Front) -> None:
    assert isinstance(stopped.ask(asked(5)), Ticket)
    job = Job(LEVEL, 2, None, asked(2).frame)
    place = stopped.dispatched.submit(
        0.0, stopped.model.native, job.level, None, job.encoding, 2, 2, False, "python", None
    )
    assert not isinstance(place, int)
    assert stopped.dispatched.queued == (2, 7)
    batch, late = stopped.dispatched.take(0.0)
    assert batch is not None
    assert [one.item.client for one in batch.slices] == ["python"]  # never those of the other front
    assert late == []
    assert stopped.dispatched.running
    stopped.dispatched.finish(batch)


def test_requests_and_bytes_are_counted_by_status(front: Front) -> None:
    front.scheduler.count(0, 100, 10)
    front.scheduler.count(0, 100, 10)
    front.scheduler.count(INVALID, 5, 0)
    counted = front.dispatched.counters()
    assert counted["requests"] == {0: 2, INVALID: 1}
    assert counted["named"] == {"bytes_received": 205, "bytes_sent": 20}
