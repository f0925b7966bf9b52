"""A fleet's Prometheus metrics, computed by its recorder."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from cloud.fleet.exits import FleetExits
from cloud.fleet.problems import Problem, problems
from cloud.fleet.recorder import Recorder
from shared.errors import UsageError

MOST_GROUPS = 50  # values of the label "group"; devices of further groups count as "other"
OTHER, NONE = "other", "none"
SCRAPE_WITHIN_S = 5.0


class FleetMetrics(Collector):
    """Metrics of ``recorder``, computed at each scrape."""

    def __init__(self, recorder: Recorder, loop: asyncio.AbstractEventLoop) -> None:
        self._recorder = recorder
        self._loop = loop

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that registering does not compute them."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Compute the metrics in the recorder's event loop, where its state changes."""

        async def compute() -> list[Metric]:
            return families(self._recorder, time.monotonic())

        with suppress(TimeoutError):
            return asyncio.run_coroutine_threadsafe(compute(), self._loop).result(SCRAPE_WITHIN_S)
        return []


def families(recorder: Recorder, now_s: float) -> list[Metric]:
    """Return all metrics at ``now_s`` (monotonic)."""
    fleet = recorder.state.fleet
    devices = list(recorder.state.devices.values())
    known = sorted(recorder.state.groups())[:MOST_GROUPS]
    states: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter({(g, p.value): 0 for g in known for p in Problem})
    members: defaultdict[str, list[str]] = defaultdict(list)
    for device in devices:
        groups = device.birth.groups if device.birth is not None else ()
        labels = {group if group in known else OTHER for group in groups} or {NONE}
        for label in labels:
            members[label].append(device.name)
        state = "online" if device.online else "away"
        found = problems(device, now_s)
        for label in labels:
            states[label, state] += 1
            wrong.update((label, one.value) for one in found)
    made: list[Metric] = [
        _gauge("taper_fleet_devices", "Devices by group and state.", fleet, "state", states),
        _gauge("taper_fleet_problems", "Devices with a problem.", fleet, "problem", wrong),
    ]
    made += exit_families(fleet, recorder.exits, members)
    connected = GaugeMetricFamily(
        "taper_fleet_broker_connected", "1 while the broker is connected.", labels=["fleet"]
    )
    connected.add_metric([fleet], float(recorder.client.connected.is_set()))
    made.append(connected)
    counts, client = recorder.counts, recorder.client.counts
    for name, text, value in (
        ("stored", "Telemetry messages stored.", counts.stored),
        ("repeated", "Telemetry messages that had arrived before.",
         counts.duplicates + client.duplicates),
        ("refused", "Messages that are not the contract.", sum(client.refused.values())),
        ("broken", "Messages whose handling failed.", sum(client.failed.values())),
        ("resends", "Requests for missing telemetry.", counts.resends),
    ):  # fmt: skip
        counter = CounterMetricFamily(f"taper_fleet_{name}", text, labels=["fleet"])
        counter.add_metric([fleet], value)
        made.append(counter)
    return made


def exit_families(
    fleet: str, exits: FleetExits, members: Mapping[str, Sequence[str]]
) -> list[Metric]:
    """Return each group's statistics of exit heads, and the drift of their confidence."""
    labels = ["fleet", "group"]
    texts = {
        "confidence": "Mean confidence of exit heads in the last samples.",
        "agreement": "Share of audited local answers that the cloud gave too.",
        "drift": "Change of the mean confidence of exit heads from what it was before.",
        "drift_margin": "Half of the 95 % interval of the drift.",
    }
    made = {name: GaugeMetricFamily(f"taper_fleet_exit_{name}", text, labels=labels)
            for name, text in texts.items()}  # fmt: skip
    for group, names in sorted(members.items()):
        now, drift = exits.now(names), exits.drift(names)
        values = {"confidence": now.exit_confidence, "agreement": now.agreement}
        if drift is not None:
            values |= {"drift": drift.value, "drift_margin": (drift.high - drift.low) / 2}
        for name, value in values.items():
            if value is not None:
                made[name].add_metric([fleet, group], value)
    return list(made.values())


def _gauge(
    name: str, text: str, fleet: str, label: str, counts: Counter[tuple[str, str]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["fleet", "group", label])
    for (group, value), count in sorted(counts.items()):
        family.add_metric([fleet, group, value], count)
    return family


@contextmanager
def serving(recorder: Recorder, host: str, port: int) -> Iterator[int]:
    """Serve the metrics while the block runs; yields the port."""
    registry = CollectorRegistry()
    registry.register(FleetMetrics(recorder, asyncio.get_running_loop()))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        text = f"--metrics-host, --metrics-port: cannot listen on {host}:{port} ({error.strerror})"
        raise UsageError(text) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
