"""What the scheduler answers, refuses and believes, on a thread that runs jobs where they come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cloud.models.catalog import Catalog
from cloud.models.job import Job, Prediction
from cloud.models.served import ServedModel
from cloud.scheduling.compute import ComputeThread
from cloud.scheduling.scheduler import Scheduler
from cloud.scheduling.settings import SchedulerSettings
from shared.bundles import bundle_path
from shared.errors import InvalidRequestError, LateError, RequestError
from shared.model.bundle import read_bundle
from shared.packed import CloudHalf, DeviceHalf, kernels
from shared.protocol.codec import Encoding, FeatureCodec, Frame
from shared.protocol.messages import Request, request_to_message
from tests.support.clouds import images, tiny_bundle

Outcome = Prediction | RequestError
BUNDLE = tiny_bundle(0)
LEVEL, WIDEST = 2, 1


class Postponed(ComputeThread):
    """Runs what it was given when it is told to."""

    def __init__(self) -> None:
        self.given: list[tuple[Callable[[], object], Callable[[], object]]] = []

    def run(self, job: Callable[[], object], on_done: Callable[[], object]) -> None:
        self.given.append((job, on_done))

    def finish(self) -> int:
        """Run everything, also what follows from it; returns the number of batches."""
        count = 0
        while self.given:
            job, on_done = self.given.pop(0)
            job()
            on_done()
            count += 1
        return count


@pytest.fixture
def thread() -> Postponed:
    return Postponed()


@pytest.fixture
def model() -> ServedModel:
    found = ServedModel(BUNDLE)
    for level in range(3):
        for cloud_level in range(2):
            found.costs.learn_run(level, cloud_level, 1, 0.01)  # too dear to run at once
    return found


@pytest.fixture
def scheduler(model: ServedModel, thread: Postponed) -> Scheduler:
    made = Scheduler(SchedulerSettings(max_batch=8, objective_s=60.0), thread)
    made.serve(Catalog.of([model]))
    return made


def features(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return DeviceHalf(BUNDLE).run(images(count), LEVEL)


def raw(count: int, cloud_level: int | None = None) -> Job:
    payload = features(count).tobytes()
    return Job(LEVEL, count, cloud_level, Frame(LEVEL, count, Encoding.RAW, payload))


def test_a_large_job_runs_in_slices_and_gets_the_logits_of_one_run(
    scheduler: Scheduler, model: ServedModel, thread: Postponed
) -> None:
    got: list[Outcome] = []
    scheduler.submit(model, raw(100), "a", None, got.append)
    assert thread.finish() == 13  # of 8 samples at most
    (prediction,) = got
    assert isinstance(prediction, Prediction)
    expected = CloudHalf(BUNDLE).run(features(100), LEVEL, WIDEST)
    np.testing.assert_array_equal(prediction.logits, expected)


def test_a_coded_job_is_decoded_and_run_in_slices(thread: Postponed) -> None:
    bundle = read_bundle(bundle_path("mnist-binary"))
    model, codec = ServedModel(bundle), FeatureCodec(bundle)
    scheduler = Scheduler(SchedulerSettings(max_batch=8, objective_s=60.0), thread)
    scheduler.serve(Catalog.of([model]))
    digits = np.random.default_rng(1).integers(0, 256, (100, 28, 28, 1), np.uint8)
    sent = DeviceHalf(bundle).run(digits, LEVEL)
    frame = codec.encode_as(sent, LEVEL, Encoding.CONTEXT)
    got: list[Outcome] = []
    jobs = [
        Job(LEVEL, 100, WIDEST, frame._replace(payload=frame.payload + more))
        for more in (b"", b"\x80\x01")
    ]
    for job in jobs:
        scheduler.submit(model, job, "a", None, got.append)
        assert thread.finish() == 13
    prediction, refusal = got
    assert isinstance(prediction, Prediction)
    np.testing.assert_array_equal(prediction.logits, CloudHalf(bundle).run(sent, LEVEL, WIDEST))
    assert isinstance(refusal, InvalidRequestError)  # known with the last slice
    assert (model.statistics.requests, model.statistics.failures) == (1, 1)


@pytest.mark.skipif(bool(kernels.missing_reason()), reason="the compiled kernels are not built")
def test_a_cheap_request_passes_a_batch_of_others_until_it_has_its_share(
    thread: Postponed,
) -> None:
    model = ServedModel(BUNDLE)
    model.warm_up()
    scheduler = Scheduler(SchedulerSettings(max_batch=32, objective_s=60.0), thread)
    scheduler.serve(Catalog.of([model]))
    payload = features(1).tobytes()
    frame = Frame(LEVEL, 1, Encoding.RAW, payload)
    asked = request_to_message(Request(7, "", "", frame)).SerializeToString()
    got: list[Outcome] = []
    scheduler.submit(model, raw(1024), "large", None, got.append)
    assert scheduler.answer_at_once(model, asked, "large") is None  # its own batch runs
    passed = 0
    while scheduler.answer_at_once(model, asked, "small") is not None:
        passed += 1
        assert passed < 100_000
    assert passed > 0
    assert scheduler.answer_at_once(model, asked, "another") is not None
    scheduler.submit(model, raw(1), "small", None, got.append)
    job, on_done = thread.given.pop(0)
    job()
    on_done()
    assert scheduler.answer_at_once(model, asked, "small") is None  # one of its requests waits
    thread.finish()
    assert len(got) == 2


def test_only_a_client_that_is_alone_has_larger_jobs_run_at_once(thread: Postponed) -> None:
    model = ServedModel(BUNDLE)
    scheduler = Scheduler(SchedulerSettings(objective_s=60.0), thread)
    scheduler.serve(Catalog.of([model]))

    def at_once(client: str) -> bool:
        for samples in 200 * [1, 1000]:  # 50 us, and 10 us for each sample
            model.costs.learn_run(LEVEL, WIDEST, samples, 50e-6 + samples * 10e-6)
            model.costs.learn_decode(Encoding.RAW, LEVEL, samples, 1e-6)
        begun = scheduler.submit(model, raw(12, WIDEST), client, None, lambda _: None)
        thread.finish()
        return isinstance(begun, Prediction)

    assert not at_once("a")  # others may have asked a moment ago
    for _ in range(2):
        scheduler.tick(0.0, 0.0)
    assert at_once("a")
    assert not at_once("b")
    assert not at_once("a")


def test_images_get_the_logits_of_both_halves(
    scheduler: Scheduler, model: ServedModel, thread: Postponed
) -> None:
    got: list[Outcome] = []
    before_s = model.costs.decode_s(0, LEVEL, 20)
    scheduler.submit(model, Job(LEVEL, 20, images=images(20)), "a", None, got.append)
    thread.finish()
    (prediction,) = got
    assert isinstance(prediction, Prediction)
    expected = CloudHalf(BUNDLE).run(features(20), LEVEL, WIDEST)
    np.testing.assert_array_equal(prediction.logits, expected)
    assert model.costs.decode_s(0, LEVEL, 20) != before_s  # the device half is charged too


def test_payloads_that_cannot_be_decoded_teach_nothing_about_costs(
    scheduler: Scheduler, model: ServedModel, thread: Postponed
) -> None:
    before_s = model.costs.run_s(LEVEL, 0, 100)
    got: list[Outcome] = []
    for _ in range(20):
        broken = Job(LEVEL, 6, 0, Frame(LEVEL, 6, Encoding.CONTEXT, bytes(9)))  # no such tables
        scheduler.submit(model, broken, "somebody", None, got.append)
    thread.finish()
    assert len(got) == 20
    assert all(isinstance(answer, InvalidRequestError) for answer in got)
    assert model.costs.run_s(LEVEL, 0, 100) == pytest.approx(before_s)
    assert scheduler.load == 0.0
    assert scheduler.queued == (0, 0)


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("level", range(3))
def test_a_byte_that_claims_to_be_a_thousand_samples_changes_nothing(
    scheduler: Scheduler, model: ServedModel, thread: Postponed, encoding: Encoding, level: int
) -> None:
    got: list[Outcome] = []
    refused = 0
    for _ in range(100):
        claim = Job(level, 1024, None, Frame(level, 1024, encoding, b"\0"))
        try:
            scheduler.submit(model, claim, "liar", None, got.append)
        except InvalidRequestError:
            refused += 1
        assert scheduler.queued[1] <= 100 * 8  # never the 1,024 that are claimed
    thread.finish()
    scheduler.tick(0.0, 0.0)
    assert refused + len(got) == 100
    assert not any(isinstance(outcome, Prediction) for outcome in got)
    assert scheduler.load == 0.0
    assert scheduler.fraction == 1.0
    if encoding is Encoding.RAW:
        assert refused == 100  # its size is known: refused before it may wait


def test_a_deadline_that_passes_in_the_queue_is_said(
    scheduler: Scheduler, model: ServedModel, thread: Postponed
) -> None:
    got: list[Outcome] = []
    scheduler.submit(model, raw(8), "a", None, got.append)
    late: list[Outcome] = []
    with pytest.raises(LateError):  # 8 samples of 10 ms wait already
        scheduler.submit(model, raw(1), "a", 0.001, late.append)
    thread.finish()
    assert len(got) == 1
    assert not late


def test_a_job_that_is_withdrawn_is_never_computed(
    scheduler: Scheduler, model: ServedModel, thread: Postponed
) -> None:
    got: list[Outcome] = []
    scheduler.submit(model, raw(1), "a", None, got.append)
    queued = scheduler.submit(model, raw(1), "a", None, got.append)
    assert not isinstance(queued, Prediction)
    scheduler.withdraw(queued)
    assert thread.finish() == 1
    assert len(got) == 1
    assert scheduler.queued == (0, 0)
