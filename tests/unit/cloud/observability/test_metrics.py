"""Counters, and the numbers of several processes as those of one."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud.models.served import ServedModel
from cloud.observability.metrics import (
    Metrics,
    Snapshot,
    exposition,
    merge,
    without_gauges,
)
from tests.support.clouds import tiny_bundle
from tests.support.dispatchers import dispatcher


@pytest.fixture(scope="module")
def model() -> ServedModel:
    return ServedModel(tiny_bundle())


def worker(model: ServedModel, answers: int, gauges: dict[str, float]) -> Snapshot:
    """Numbers of a process that answered so many requests of two samples, and refused one."""
    metrics, dispatched = Metrics(), dispatcher()
    for _ in range(answers):
        dispatched.ran_at_once(0.0, model.native, 2, 1, 2, 1, 1e-4, 3e-4)
        metrics.request("OK", 100, 10)
    dispatched.account(0.0)
    dispatched.count_refused(model.native, "late")
    metrics.request("DEADLINE_EXCEEDED", 100, 0)
    return metrics.snapshot(gauges, [model], dispatched.counters())


def values(snapshot: Snapshot) -> dict[tuple[str, tuple[str, ...]], float]:
    """What Prometheus would read; labels are in the order of their names."""
    families = text_string_to_metric_families(exposition(snapshot).decode())
    return {
        (sample.name, tuple(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_value_on_a_bound_belongs_to_it(model: ServedModel) -> None:
    dispatched = dispatcher()
    seconds = (2e-5, 25e-6, 3e-5, 9.0)
    for one in seconds:
        dispatched.ran_at_once(0.0, model.native, 2, None, 1, 1, 0.0, one)
    dispatched.account(0.0)
    found = dispatched.counters()["histograms"]["compute_seconds"]
    assert found["bounds"][:2] == [25e-6, 50e-6]
    assert (found["counts"][:2], found["counts"][-1]) == ([2, 1], 1)
    assert found["total"] == pytest.approx(sum(seconds))


def test_requests_that_never_waited_count_like_any_others(model: ServedModel) -> None:
    together, singly = dispatcher(), dispatcher()
    for one in (3e-5, 2e-4, 2e-4, 7.0):
        for dispatched in (together, singly):
            dispatched.ran_at_once(0.0, model.native, 2, None, 2, 1, 0.0, one)
        singly.account(0.0)
    together.account(0.0)
    assert together.counters() == singly.counters()


def test_counts_add_up_and_gauges_combine(model: ServedModel) -> None:
    first = worker(model, 3, {"streams": 2, "cloud_fraction": 0.5, "load": 0.2, "workers": 1})
    second = worker(model, 4, {"streams": 5, "cloud_fraction": 1.0, "load": 0.9, "workers": 1})
    read = values(merge([first, second]))
    assert read["taper_requests_total", ("OK",)] == 7
    assert read["taper_requests_total", ("DEADLINE_EXCEEDED",)] == 2
    assert read["taper_refusals_total", ("late",)] == 2
    assert read["taper_samples_total", ("1", "tiny")] == 14
    assert read["taper_bytes_received_total", ()] == 900
    assert read["taper_bytes_sent_total", ()] == 70
    assert read["taper_latency_seconds_count", ()] == 7
    assert read["taper_latency_seconds_sum", ()] == pytest.approx(7 * 4e-4)
    assert read["taper_latency_seconds_bucket", ("0.0005",)] == 7
    assert read["taper_latency_seconds_bucket", ("0.0002",)] == 0
    assert read["taper_batch_samples_bucket", ("2",)] == 7
    assert read["taper_streams", ()] == 7
    assert read["taper_cloud_fraction", ()] == 0.5  # the least
    assert read["taper_load", ()] == 0.9  # the most
    assert read["taper_workers", ()] == 2
    assert read["taper_model_info", (model.name, model.version)] == 2


def test_merging_changes_no_part_and_goes_through_json(model: ServedModel) -> None:
    parts = [worker(model, 1, {"load": 0.1}), worker(model, 2, {"load": 0.3})]
    before = [json.dumps(part.to_json()) for part in parts]
    sent = [Snapshot(**json.loads(text)) for text in before]
    assert merge(sent) == merge(reversed(sent))
    assert values(merge(sent)) == values(merge(parts))
    assert [json.dumps(part.to_json()) for part in parts] == before
    assert merge([]) == Snapshot()


def test_a_process_that_ended_leaves_its_counts(model: ServedModel) -> None:
    ended = without_gauges(worker(model, 3, {"streams": 2, "workers": 1}))
    read = values(merge([ended, worker(model, 1, {"streams": 1, "workers": 1})]))
    assert read["taper_requests_total", ("OK",)] == 4
    assert read["taper_streams", ()] == 1
    assert read["taper_workers", ()] == 1
    assert read["taper_model_info", (model.name, model.version)] == 1
