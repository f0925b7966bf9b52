"""Counters of one process, snapshots of them as plain values, and the sum over workers.

Counting a request only adds to plain numbers; they are converted to Prometheus's types when they
are scraped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from cloud.models.served import ServedModel

STATUSES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass
class Snapshot:
    """All metrics of one process, or of several, as values that JSON can hold."""

    requests: dict[str, int] = field(default_factory=dict)  # by status
    samples: dict[str, int] = field(default_factory=dict)  # by "model level"
    refusals: dict[str, int] = field(default_factory=dict)  # by reason
    counters: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, dict[str, Any]] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    models: dict[str, int] = field(default_factory=dict)  # by "name version", how many workers

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value from which ``Snapshot(**value)`` makes an equal snapshot."""
        return asdict(self)


class Metrics:
    """The counters of this process, apart from those of its dispatcher."""

    def __init__(self) -> None:
        self._requests: dict[str, int] = {}
        self.counters: dict[str, float] = {
            "bytes_received": 0,
            "bytes_sent": 0,
            "model_loads": 0,
            "model_load_failures": 0,
            "level_changes": 0,
            "connections_cut": 0,
            "looks_asked": 0,
            "second_looks": 0,
            "second_looks_unknown": 0,
            "second_looks_refused": 0,
        }

    def models_loaded(self, loads: int, failures: int) -> None:
        """Count ``loads`` bundles as loaded and ``failures`` as refused."""
        self.counters["model_loads"] += loads
        self.counters["model_load_failures"] += failures

    def request(self, status: str, received: int, sent: int) -> None:
        """Count a finished request by gRPC status, and the bytes ``received`` and ``sent``."""
        self._requests[status] = self._requests.get(status, 0) + 1
        self.counters["bytes_received"] += received
        self.counters["bytes_sent"] += sent

    def snapshot(
        self,
        gauges: Mapping[str, float],
        models: Iterable[ServedModel],
        counted: Mapping[str, Any],
    ) -> Snapshot:
        """Return all metrics as they are now.

        ``counted`` is the value of ``Dispatcher.counters``; ``gauges`` are included unchanged.
        """
        samples = counted["samples"]
        requests, counters = Counter(self._requests), Counter(self.counters)
        requests.update({STATUSES[code]: count for code, count in counted["requests"].items()})
        counters.update(counted["named"])
        return Snapshot(
            dict(requests),
            {f"{model} {level:g}": count for (model, level), count in samples.items()},
            counted["refusals"],
            dict(counters),
            counted["histograms"],
            dict(gauges),
            {f"{model.name} {model.version}": 1 for model in models},
        )


# How to combine the gauges of several workers; those that are not listed are added.
COMBINE = {"cloud_fraction": min, "load": max}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Combine the metrics of several processes into those of one."""
    merged = Snapshot()
    for one in snapshots:
        for name in ("requests", "samples", "refusals", "counters", "models"):
            mine = getattr(merged, name)
            for key, value in getattr(one, name).items():
                mine[key] = mine.get(key, 0) + value
        for key, value in one.gauges.items():
            known = merged.gauges.get(key)
            combine = COMBINE.get(key)
            if known is None:
                merged.gauges[key] = value
            else:
                merged.gauges[key] = known + value if combine is None else combine(known, value)
        for key, found in one.histograms.items():
            into = merged.histograms.setdefault(
                key, {"bounds": found["bounds"], "counts": [0] * len(found["counts"]), "total": 0.0}
            )
            into["counts"] = [a + b for a, b in zip(into["counts"], found["counts"], strict=True)]
            into["total"] += found["total"]
    return merged


def without_gauges(snapshot: Snapshot) -> Snapshot:
    """Return a copy without gauges, as what remains of a process that has ended."""
    return Snapshot(
        snapshot.requests,
        snapshot.samples,
        snapshot.refusals,
        snapshot.counters,
        snapshot.histograms,
    )


DESCRIPTIONS = {
    "bytes_received": "Bytes of inference requests.",
    "bytes_sent": "Bytes of inference responses.",
    "model_loads": "Model versions that were loaded.",
    "model_load_failures": "Bundles that were refused.",
    "level_changes": "Changes of the cloud's own fraction.",
    "connections_cut": "Connections that the native front reset for what they had sent.",
    "looks_asked": "Samples at which the server wanted another look.",
    "second_looks": "Second looks that it had asked for.",
    "second_looks_unknown": "Second looks of which it did not know the first.",
    "second_looks_refused": "Second looks that came twice or were of another model version.",
    "queue_seconds": "Time that a request waited.",
    "compute_seconds": "Time that a batch computed.",
    "latency_seconds": "Queue and compute of a request.",
    "batch_samples": "Samples of a batch.",
    "queue_requests": "Requests that wait.",
    "queue_samples": "Samples that wait.",
    "streams": "Streams that are open.",
    "cloud_fraction": "Fraction of the cloud's channels that is in use (the least of all workers).",
    "load": "Share of the capacity in use (the most of all workers).",
    "worker_restarts": "Workers that died and were replaced.",
    "workers": "Workers that serve.",
}


def families(snapshot: Snapshot) -> Iterable[Metric]:
    """Convert a snapshot to Prometheus metrics."""
    requests = CounterMetricFamily("taper_requests", "Requests by status.", labels=["status"])
    for status, count in sorted(snapshot.requests.items()):
        requests.add_metric([status], count)
    yield requests
    refusals = CounterMetricFamily(
        "taper_refusals", "Requests that were not computed.", labels=["reason"]
    )
    for reason, count in sorted(snapshot.refusals.items()):
        refusals.add_metric([reason], count)
    yield refusals
    samples = CounterMetricFamily(
        "taper_samples", "Samples by model and cloud fraction.", labels=["model", "fraction"]
    )
    for name, count in sorted(snapshot.samples.items()):
        samples.add_metric(name.rsplit(" ", 1), count)
    yield samples
    served = GaugeMetricFamily(
        "taper_model_info", "Workers that serve a version.", labels=["model", "version"]
    )
    for name, count in sorted(snapshot.models.items()):
        served.add_metric(name.rsplit(" ", 1), count)
    yield served
    for name, value in sorted(snapshot.counters.items()):
        yield CounterMetricFamily(f"taper_{name}", DESCRIPTIONS.get(name, name), value=value)
    for name, value in sorted(snapshot.gauges.items()):
        yield GaugeMetricFamily(f"taper_{name}", DESCRIPTIONS.get(name, name), value=value)
    for name, found in sorted(snapshot.histograms.items()):
        buckets = []
        running = 0
        bounds = [*(f"{bound:g}" for bound in found["bounds"]), "+Inf"]
        for bound, count in zip(bounds, found["counts"], strict=True):
            running += count
            buckets.append((bound, running))
        yield HistogramMetricFamily(
            f"taper_{name}", DESCRIPTIONS.get(name, name), buckets, found["total"]
        )


class _Once(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        return families(self._snapshot)


def exposition(snapshot: Snapshot) -> bytes:
    """Return a snapshot in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Once(snapshot))
    return generate_latest(registry)
