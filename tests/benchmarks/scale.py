"""``python -m tests.benchmarks.scale``: restarts and losses under load, two workers, Ray Serve.

``workers2_vs_1`` is computed from CPU time, as two workers cannot answer twice as much on a machine
with two cores, one of which generates the load. With a core each, they could answer more until the
worker with more connections is full: (requests per CPU second of both workers) / (share of the
connections that the kernel gave to the worker with more), divided by (requests per CPU second of a
single worker). All workers run on one core and the load on another, so that they are never idle: a
server that waits for requests spends more CPU time on each.

Ray Serve is measured if TAPER_RAY names an environment with ray (``make ray`` makes one).
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from shared.bundles import bundle_path
from shared.model.bundle import read_bundle
from shared.protocol.codec import Encoding
from tests.benchmarks.capacity_costs import OPEN
from tests.benchmarks.crowd import Crowd
from tests.benchmarks.harness import Check, Report, main, ratio, table
from tests.benchmarks.serving import bodies, started
from tests.support.clouds import until
from tests.support.devices import MODEL, SERVED, Tally, load, progress
from tests.support.ray_cluster import ray_environment, ray_serve
from tests.support.sites import Site, site

ROUNDS, SLICE_S = 5, 0.7
CONNECTIONS = 256
AT_ONCE = 16  # number of connections in the comparison with Ray Serve
SERVER = ("cloud.server", "--host", "127.0.0.1", "--port", "0", *SERVED, *OPEN)


@dataclass(frozen=True)
class Upheaval:
    """The results of a restart or loss of servers behind the proxy under load.

    seconds  time until the proxy gave the server no more streams
    """

    samples: int
    failed: int
    slowest_ms: float
    seconds: float


def failed(tally: Tally) -> int:
    """Return the number of samples without exactly one answer, or with a wrong one."""
    return sum(count != 1 for count in tally.answers) + tally.wrong


def upheaval(tally: Tally, seconds: float) -> Upheaval:
    """Summarise ``tally``."""
    return Upheaval(tally.asked, failed(tally), 1000 * max(tally.latencies_s), seconds)


async def rolling_restart(running: Site) -> Upheaval:
    """Restart all three servers, one after the other."""
    async with load(running.proxy.address) as tally:
        await progress(tally, 300)
        began_s = time.monotonic()
        await running.roll(tally, 200)
        seconds = time.monotonic() - began_s
    return upheaval(tally, seconds)


async def loss(running: Site, name: str, number: signal.Signals) -> Upheaval:
    """Kill or freeze one server, whose streams move to the others."""
    async with load(running.proxy.address) as tally:
        await progress(tally, 300)
        streams = sum(running.streams().values())
        began_s = time.monotonic()
        running.servers[name].process.send_signal(number)
        await until(lambda: running.streams()[name] == 0, 20)
        await until(lambda: sum(running.streams().values()) == streams, 20)
        seconds = time.monotonic() - began_s
        await progress(tally, 300)
    return upheaval(tally, seconds)


async def upheavals(folder: Path) -> dict[str, Upheaval]:
    """Measure a rolling restart, a frozen server and a killed one."""
    with site(folder) as running:
        found = {"rolling restart": await rolling_restart(running)}
        found["frozen"] = await loss(running, "cloud-2", signal.SIGSTOP)
        running.servers["cloud-2"].process.send_signal(signal.SIGCONT)
        await running.all_up()
        found["killed"] = await loss(running, "cloud-3", signal.SIGKILL)
    return found


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


def per_cpu_second(crowd: Crowd, processes: Sequence[psutil.Process]) -> float:
    """Measure the requests that ``processes`` answer in a second of their CPU time."""
    before = sum(map(cpu_s, processes))
    answered = crowd.busy(SLICE_S).answered
    return answered / (sum(map(cpu_s, processes)) - before)


def largest_share(processes: Sequence[psutil.Process]) -> float:
    """Return the share of open connections of the process that has the most of them."""
    counts = [
        sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp"))
        for process in processes
    ]
    return max(counts) / sum(counts)


def workers(one: Sequence[bytes], cpu: int) -> tuple[list[float], list[float], list[float]]:
    """Measure requests per CPU second of one worker and of two, and the larger connection share."""
    with ExitStack() as stack:
        single, single_address = stack.enter_context(started(cpu, *SERVER))
        double, address = stack.enter_context(started(cpu, *SERVER, "--workers", "2"))
        lonely = stack.enter_context(Crowd(single_address, CONNECTIONS, one))
        alone, both, shares = [], [], []
        pair = double.children()
        for _ in range(ROUNDS):
            alone.append(per_cpu_second(lonely, [single]))
            # The kernel distributes new connections to the workers again.
            with Crowd(address, CONNECTIONS, one) as shared:
                shares.append(largest_share(pair))
                both.append(per_cpu_second(shared, pair))
    return alone, both, shares


def against_ray(one: Sequence[bytes], folder: Path, environment: Path) -> dict[str, list[float]]:
    """Measure median latency of one device and requests a second of several, ours and Ray's."""
    found: dict[str, list[float]] = {}
    with (
        ray_serve(folder, environment, least=1, most=1, streams_a_replica=1000) as ray,
        started(None, *SERVER) as (_, address),
    ):
        for _ in range(ROUNDS):
            for name, where in (("server", address), ("ray", ray.address)):
                with Crowd(where, 1, one) as alone:
                    latencies = alone.busy(SLICE_S).latencies
                with Crowd(where, AT_ONCE, one) as several:
                    load = several.busy(SLICE_S)
                p50 = statistics.median(latencies) * 1e6
                found.setdefault(f"{name} p50 us", []).append(p50)
                found.setdefault(f"{name} requests/s", []).append(load.answered / load.seconds)
    return found


def run(full: bool) -> Report:
    """Measure everything."""
    cpus = range(os.cpu_count() or 1)
    (own,) = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)  # devices and servers share all CPUs of the machine
    one = bodies(read_bundle(bundle_path(MODEL)), 1, Encoding.CONTEXT)
    environment = ray_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        moved = asyncio.run(upheavals(folder))
        os.sched_setaffinity(0, {own})
        alone, both, shares = workers(one, next((cpu for cpu in cpus if cpu != own), own))
        os.sched_setaffinity(0, cpus)
        ray = {} if environment is None else against_ray(one, folder, environment)
    return report(moved, alone, both, shares, ray)


def report(
    moved: dict[str, Upheaval],
    alone: list[float],
    both: list[float],
    shares: list[float],
    ray: dict[str, list[float]],
) -> Report:
    """Make the report with tables, raw medians and checks."""
    medians = {name: statistics.median(values) for name, values in ray.items()}
    latency = ratio(ray["ray p50 us"], ray["server p50 us"]) if ray else None
    rate = ratio(ray["ray requests/s"], ray["server requests/s"]) if ray else None
    capacity = [rate / share for rate, share in zip(both, shares, strict=True)]
    checks = [
        Check("rolling_restart_failed", moved["rolling restart"].failed, "samples", 0, "lower"),
        Check("replica_loss_failed", moved["killed"].failed, "samples", 0, "lower"),
        Check("frozen_failed", moved["frozen"].failed, "samples", 0, "lower"),
        # Two health checks half a second apart, each of which may wait for half a second.
        Check("frozen_moved_s", moved["frozen"].seconds, "s", 2.0, "lower"),
        Check("workers2_vs_1", ratio(capacity, alone), "", 1.6, "higher"),
        # Ray Serve has no target of its own; 1 would be as fast as the server itself.
        Check("ray_vs_server_p50", latency, "", 1.0, "lower"),
        Check("ray_vs_server_throughput", rate, "", 1.0, "higher"),
    ]
    results = {
        "upheavals": {name: asdict(one) for name, one in moved.items()},
        "one worker, requests a CPU second": statistics.median(alone),
        "two workers, requests a CPU second": statistics.median(both),
        "largest share of the connections": statistics.median(shares),
        "ray": medians,
    }
    upheaval_rows = [
        (
            name,
            f"{one.samples:,}",
            f"{one.failed}",
            f"{one.seconds:.2f}",
            f"{one.slowest_ms:,.0f}",
        )
        for name, one in moved.items()
    ]
    rows = [
        ("one worker: requests a CPU second", f"{statistics.median(alone):,.0f}"),
        ("two workers: requests a CPU second", f"{statistics.median(both):,.0f}"),
        ("largest share of their connections", f"{statistics.median(shares):.2f}"),
        *((name, f"{value:,.0f}") for name, value in medians.items()),
    ]
    heads = ("three servers behind the proxy", "samples", "failed", "moved, s", "slowest, ms")
    tables = [table("", heads, upheaval_rows), table("", ("", "median"), rows)]
    return Report(results, checks, tables)


if __name__ == "__main__":
    main("scale", str(__doc__).splitlines()[0], run)
