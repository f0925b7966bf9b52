"""``python -m tests.benchmarks.capacity``: what a million devices at one sample a second need.

Costs are measured on real programs, and the plan is computed from them. It is checked against a
simulation of a server's queue, and against a real run of as many devices as one core can serve.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import read_bundle
from shared.protocol.codec import Encoding
from tests.benchmarks.capacity_costs import (
    Meter,
    bytes_of,
    direct,
    leave_share,
    proxied,
    serving,
    telemetry,
)
from tests.benchmarks.capacity_model import Assumed, Measured, Plan, plan
from tests.benchmarks.crowd import Crowd
from tests.benchmarks.harness import Check, Report, main, table
from tests.benchmarks.queueing import Queue, expected_mean_s, simulate
from tests.benchmarks.serving import bodies

DEVICES = 1_000_000
PER_DEVICE = 1.0  # samples a second
LARGEST_RUN = 6000  # most devices of the real run, by the number of files that a process may open
RUN_S, FULL_RUN_S = 6.0, 30.0
FAILED_ZONE = 1.5  # factor of the load if one zone of three is lost


@dataclass(frozen=True)
class RealRun:
    """The results of real devices on one core, each at one sample a second.

    Latency counts from when a request was due. ``late_p99_ms`` is the part of it by which the load
    generator was late.
    """

    devices: int
    rate: float
    use: float
    p50_ms: float
    p99_ms: float
    late_p99_ms: float
    request_us: float


def real_run(
    address: str, meter: Meter, one: Sequence[bytes], devices: int, seconds: float
) -> RealRun:
    """Run ``devices`` with a stream each; each sends at its own moment within every second."""
    with Crowd(address, devices, one) as crowd:
        meter.reset()
        load = crowd.steady(PER_DEVICE, seconds)
        use, cpu_us = meter.use, meter.cpu_us
    latencies, lateness = sorted(load.latencies), sorted(crowd.lateness_s)
    return RealRun(
        devices,
        load.answered / seconds,
        use,
        1000 * statistics.median(latencies),
        1000 * latencies[int(0.99 * len(latencies))],
        1000 * lateness[int(0.99 * len(lateness))],
        cpu_us / load.answered,
    )


def run(full: bool) -> Report:
    """Measure costs, make the plan, simulate and compare; ``full`` runs longer."""
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    one = bodies(bundle, 1, Encoding.CONTEXT)
    cpus = sorted(set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address, meter = stack.enter_context(serving(cpus[0] if cpus else None))
        server = direct(address, meter, one)
        proxy = proxied(address, meter, one, folder)
        up, down = asyncio.run(bytes_of(address, bundle))
        messages = asyncio.run(telemetry(address, folder))
        assumed = Assumed()
        measured = Measured(
            request_us=server.request_us,
            proxied_us=proxy.proxied_us,
            sparse_us=server.sparse_us,
            proxy_us=proxy.proxy_us,
            connect_us=server.connect_us,
            connection_bytes=server.connection_bytes,
            proxy_connection_bytes=proxy.proxy_connection_bytes,
            message_us=messages.message_us,
            keeping_us=messages.keeping_us,
            broker_connection_bytes=messages.broker_connection_bytes,
            up_bytes=up,
            down_bytes=down,
            leave_share=leave_share(bundle),
        )
        fits = int(assumed.use * 1e6 / measured.request_us / PER_DEVICE)
        devices = min(fits, LARGEST_RUN)
        real = real_run(address, meter, one, devices, FULL_RUN_S if full else RUN_S)
    return report(measured, assumed, real, server.load.answered / server.load.seconds)


def report(measured: Measured, assumed: Assumed, real: RealRun, full_load: float) -> Report:
    """Make the report with tables, results and checks."""
    plans = {
        "proxies, every sample sent": plan(measured, assumed, DEVICES, PER_DEVICE, 1.0),
        "direct, every sample sent": plan(measured, assumed, DEVICES, PER_DEVICE, 1.0, False),
        "proxies, exit head on": plan(measured, assumed, DEVICES, PER_DEVICE, measured.leave_share),
    }
    service_s = measured.request_us * 1e-6
    planned = assumed.use / service_s
    turn_s = max(measured.sparse_us * 1e-6 - service_s, 0.0)  # cost of waking up for a request
    queues = {
        f"planned, {assumed.use:.0%} of a core": simulate(planned, service_s),
        f"a zone of three lost, {FAILED_ZONE * assumed.use:.0%}": simulate(
            FAILED_ZONE * planned, service_s
        ),
        "as the real run, with the cost of waking up": simulate(real.rate, service_s, turn_s),
    }
    found = queues["as the real run, with the cost of waking up"]
    simulated, formula = next(iter(queues.values())).mean_s, expected_mean_s(planned, service_s)
    checks = [
        Check("simulation_vs_formula", _apart(simulated, formula), "", 1.1, "lower"),
        Check("real_rate_vs_asked", real.rate / real.devices / PER_DEVICE, "", 0.95, "higher"),
        Check("real_use_vs_simulated", _apart(real.use, found.use), "", 1.25, "lower"),
        Check("full_load_vs_model", full_load * service_s, "", 0.8, "higher"),
    ]
    results = {
        "measured": asdict(measured),
        "assumed": asdict(assumed),
        "plans": {name: {**asdict(one), "first": one.first.name} for name, one in plans.items()},
        "queues": {name: asdict(queue) for name, queue in queues.items()},
        "real": asdict(real),
        "full_load_per_s": full_load,
    }
    tables = [_measured_table(measured), *(_plan_table(*item) for item in plans.items())]
    return Report(results, checks, [*tables, _queue_table(queues, real)])


def _apart(one: float, other: float) -> float:
    """Return the larger of two values divided by the smaller."""
    return max(one / other, other / one)


def _measured_table(measured: Measured) -> Table:
    rows = [(name, f"{value:,.3g}") for name, value in asdict(measured).items()]
    return table("measured, of one sample, message or connection", ("cost", "value"), rows)


def _plan_table(name: str, made: Plan) -> Table:
    rows = [
        (
            part.name,
            f"{part.cores:,.1f}",
            f"{part.gigabytes:,.1f}",
            f"{part.units:,}",
            f"{part.devices_a_unit:,.0f} ({part.limit})",
            f"{made.cost[part.name]:,.0f}",
        )
        for part in made.parts
    ]
    rows.append(("egress", "", "", "", "", f"{made.cost['egress']:,.0f}"))
    rows.append(("all", "", "", "", "", f"{sum(made.cost.values()):,.0f}"))
    title = (
        f"{made.devices:,} devices, {name}: {made.samples_per_s:,.0f} samples/s, "
        f"{made.up_bits_per_s / 1e9:.2f} Gbit/s up, {made.down_bits_per_s / 1e9:.2f} down; "
        f"first full: {made.first.name}"
    )
    heads = ("part", "cores", "GB", "units", "devices that fill one", "$ a month")
    return table(title, heads, rows)


def _queue_table(queues: dict[str, Queue], real: RealRun) -> Table:
    rows = [
        (
            f"simulated: {name}",
            f"{queue.use:.2f}",
            f"{1000 * queue.p50_s:.2f}",
            f"{1000 * queue.p99_s:.2f}",
        )
        for name, queue in queues.items()
    ]
    name = f"real: {real.devices:,} devices, {real.rate:,.0f} samples/s"
    rows.append((name, f"{real.use:.2f}", f"{real.p50_ms:.2f}", f"{real.p99_ms:.2f}"))
    rows.append(("of which the load itself was late", "", "", f"{real.late_p99_ms:.2f}"))
    return table("one serving core", ("", "use", "p50 ms", "p99 ms"), rows)


if __name__ == "__main__":
    main("capacity", str(__doc__).splitlines()[0], run)
