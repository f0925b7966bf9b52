"""What the scheduler believes after requests that cannot be answered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloud.models.catalog import Catalog
from cloud.models.served import ServedModel
from cloud.observability.metrics import Metrics
from cloud.scheduling.compute import ComputeThread, Job
from cloud.scheduling.scheduler import Scheduler, SchedulerSettings
from shared.errors import RequestError
from shared.protocol.codec import Encoding, Frame
from shared.protocol.messages import Request, Response
from tests.support.clouds import tiny_bundle


class AtOnce(ComputeThread):
    """Runs jobs where they are given."""

    def run(self, job: Job, then: Callable[[], object]) -> None:
        job()
        then()


def test_broken_frames_teach_nothing_about_costs() -> None:
    model = ServedModel(tiny_bundle(0))
    scheduler = Scheduler(SchedulerSettings(objective_s=60.0), AtOnce(), Metrics())
    scheduler.serve(Catalog.of([model]))
    model.costs.learn(0, 0, 1, 0.01)  # too dear to be answered at once
    before_s = model.costs.batch_s(0, 0, 100)
    got: list[Response | RequestError] = []
    broken = Request(1, "", "", Frame(0, 100, Encoding.RAW, b"\xff"), cloud_level=0)
    for _ in range(20):
        scheduler.submit(model, broken, "somebody", None, got.append)
    assert len(got) == 20
    assert all(isinstance(answer, RequestError) for answer in got)
    assert model.costs.batch_s(0, 0, 100) == pytest.approx(before_s)
