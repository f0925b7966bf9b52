"""Compares the native front with bare grpc.aio; a part of the serving benchmark.

The capacity of a core is computed from CPU time, so that the load generator cannot limit it: the
number of answered requests, divided by the CPU seconds that the server took for them.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import grpc
import numpy as np
import psutil

from protos.split.v1 import split_pb2 as pb
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from shared.protocol.messages import Request, request_to_message
from tests.benchmarks.harness import Check, Report, ratio, table
from tests.benchmarks.load import INFER, INFER_STREAM, Caller
from tests.benchmarks.whole_images import MODEL_INFER, Contender
from tests.benchmarks.whole_images import requests as image_requests
from tests.support.processes import ROOT, environment

SERVER = ("cloud.server", "--host", "127.0.0.1", "--port", "0", "--cloud-fraction", "1.0")
NATIVE = ("--front", "native", "--threads")
IN_FLIGHT = 64
BATCH = 16
BATCHES_IN_FLIGHT = 8  # more would be refused, as their samples exceed a client's share
HEAVY = "cifar10-binary"
CONNECTIONS, HEAVY_IN_FLIGHT = 4, 4  # of each connection
TARGETS: dict[str, tuple[str, float, Literal["higher", "lower"]]] = {
    "native_stream_vs_echo": ("", 2.5, "higher"),
    "native_unary_vs_echo": ("", 3.0, "higher"),
    "native_added_p50_us": ("us", 0.0, "lower"),
    "native_oip_vs_kserve": ("", 5.0, "higher"),
    "native_batch16_samples_per_s": ("samples/s", 120_000.0, "higher"),
    "threads2_vs_1": ("", 1.7, "higher"),
}


class NoFrontError(Exception):
    """This installation cannot serve with the native front; the message says why."""


@dataclass(frozen=True)
class Cost:
    """A slice of load: CPU us per request, of all threads and of the busiest; p50; and rate."""

    cpu_us: float
    busiest_us: float
    p50_us: float
    requests_per_s: float


@dataclass
class Costs:
    """The slices of each subject, one for each round."""

    of: dict[str, list[Cost]] = field(default_factory=dict)

    def add(self, name: str, cost: Cost) -> None:
        """Add a slice."""
        self.of.setdefault(name, []).append(cost)

    def per_core(self, name: str) -> list[float]:
        """Return the requests a second that one core can do, by round."""
        return [1e6 / cost.cpu_us for cost in self.of[name]]

    def per_thread(self, name: str, threads: int) -> list[float]:
        """Return the requests a second if each thread had a core to itself, by round.

        The busiest thread is the limit; or, if work moves between more than ``threads`` threads,
        their number.
        """
        return [1e6 / max(one.busiest_us, one.cpu_us / threads) for one in self.of[name]]


@contextmanager
def native_server(cpu: int | None, threads: int, *flags: str) -> Iterator[tuple[int, str]]:
    """Run a server with the native front; yields process id and address, or ``NoFrontError``."""
    command = [sys.executable, "-m", *SERVER, *NATIVE, str(threads), *flags]
    if cpu is not None:
        command = ["taskset", "--cpu-list", str(cpu), *command]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("listening on "):
            process.wait()
            log.seek(0)
            raise NoFrontError(" ".join(log.read().split())[-200:])
        try:
            yield process.pid, line.split()[-1]
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> dict[int, float]:
    """Return the CPU seconds so far of each thread of a process and of its children."""
    found = {}
    for one in (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))):
        for task in Path(f"/proc/{one}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread may have ended
                found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) * 1e-9
    return found


def measure(pid: int, callers: Sequence[Caller], kind: str, in_flight: int, seconds: float) -> Cost:
    """Measure a slice of load by all ``callers`` at the same time, then close them."""
    before = cpu_seconds(pid)
    with ThreadPoolExecutor(len(callers)) as pool:
        loads = list(pool.map(lambda one: getattr(one, kind)(in_flight, seconds), callers))
    after = cpu_seconds(pid)
    for caller in callers:
        caller.close()
    answered = sum(load.answered - load.refused for load in loads)
    if not answered:
        raise RuntimeError("the server refused every request")
    spent = [after[thread] - before.get(thread, 0.0) for thread in after]
    latencies = [one for load in loads for one in load.latencies]
    return Cost(
        sum(spent) / answered * 1e6,
        max(spent) / answered * 1e6,
        statistics.median(latencies) * 1e6,
        answered / max(load.seconds for load in loads),
    )


def heavy_bodies() -> list[bytes]:
    """Make requests of 16 raw samples for the large network, from noise images."""
    bundle = read_bundle(bundle_path(HEAVY))
    shape, level = bundle.architecture.input_shape, len(bundle.architecture.device_levels) - 1
    size = (BATCH, shape.height, shape.width, shape.channels)
    images = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    frame = FeatureCodec(bundle).encode_as(
        DeviceHalf(bundle).run(images, level), level, Encoding.RAW
    )
    return [request_to_message(Request(1, HEAVY, "", frame)).SerializeToString()]


def same_answers(addresses: Sequence[str], requests: Sequence[bytes]) -> None:
    """Raise ``RuntimeError`` unless all servers give the same answers to single calls."""
    found = []
    for address in addresses:
        with grpc.insecure_channel(address) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(INFER)
            found.append([_labels(call(request, timeout=10)) for request in requests])
    if any(one != found[0] for one in found):
        raise RuntimeError("the fronts give different answers")


def _labels(response: bytes) -> list[int]:
    return [one.label for one in pb.InferResponse.FromString(response).results]


@dataclass(frozen=True)
class Subjects:
    """The servers that are measured beside the native front, on the same core, and the requests."""

    peer: tuple[int, str]  # process and address of bare grpc.aio
    ours: str  # address of the Python front
    kserve: Contender | None
    cpu: int | None
    single: Sequence[bytes]  # requests of one sample
    batches: Mapping[str, Sequence[bytes]]  # requests of 16


def run(subjects: Subjects, rounds: int, seconds: float) -> Report:
    """Measure everything. Without a native front, checks have no values and a line says why."""
    try:
        costs = _costs(subjects, rounds, seconds)
    except NoFrontError as error:
        sys.stderr.write(f"the native front is not measured: {error}\n")
        return Report({}, _checks({}))
    return report(costs)


def _costs(subjects: Subjects, rounds: int, seconds: float) -> Costs:
    heavy, costs = heavy_bodies(), Costs()
    more = ("--model", HEAVY, "--slo-ms", "10000")
    with (
        native_server(subjects.cpu, 1) as native,
        native_server(None, 1, *more) as single,
        native_server(None, 2, *more) as double,
    ):
        same_answers((subjects.ours, native[1]), subjects.single)
        same_answers((single[1], double[1]), heavy)
        for _ in range(rounds):
            _one_round(subjects, native, costs, seconds)
            for threads, (pid, address) in ((1, single), (2, double)):
                callers = [Caller(address, INFER_STREAM, heavy) for _ in range(CONNECTIONS)]
                cost = measure(pid, callers, "stream", HEAVY_IN_FLIGHT, 2 * seconds)
                costs.add(f"{HEAVY}, 16 samples: --threads {threads}", cost)
    return costs


def _one_round(subjects: Subjects, native: tuple[int, str], costs: Costs, seconds: float) -> None:
    for name, (pid, address) in (("bare", subjects.peer), ("native", native)):
        for kind, path in (("unary", INFER), ("stream", INFER_STREAM)):
            for in_flight in (1, IN_FLIGHT):
                callers = [Caller(address, path, subjects.single)]
                cost = measure(pid, callers, kind, in_flight, seconds)
                costs.add(f"{kind}, {in_flight} in flight: {name}", cost)
    for name, requests in subjects.batches.items():
        callers = [Caller(native[1], INFER_STREAM, requests)]
        cost = measure(native[0], callers, "stream", BATCHES_IN_FLIGHT, seconds)
        costs.add(f"native, {name}", cost)
    callers = [Caller(native[1], MODEL_INFER, image_requests(DEFAULT_MODEL))]
    costs.add("whole images: native", measure(native[0], callers, "unary", IN_FLIGHT, seconds))
    if subjects.kserve is not None:
        callers = [Caller(subjects.kserve.address, MODEL_INFER, image_requests("digits"))]
        cost = measure(subjects.kserve.pid, callers, "unary", IN_FLIGHT, seconds)
        costs.add("whole images: kserve", cost)


def report(costs: Costs) -> Report:
    """Make the report with table, medians and checks."""
    found: dict[str, float] = {}
    for kind in ("stream", "unary"):
        pair = (f"{kind}, {IN_FLIGHT} in flight: {name}" for name in ("native", "bare"))
        found[f"native_{kind}_vs_echo"] = ratio(*(costs.per_core(name) for name in pair))
    alone = (costs.of[f"stream, 1 in flight: {name}"] for name in ("native", "bare"))
    found["native_added_p50_us"] = statistics.median(
        ours.p50_us - peer.p50_us for ours, peer in zip(*alone, strict=True)
    )
    if "whole images: kserve" in costs.of:
        pair = (f"whole images: {name}" for name in ("native", "kserve"))
        found["native_oip_vs_kserve"] = ratio(*(costs.per_core(name) for name in pair))
    found["native_batch16_samples_per_s"] = max(
        BATCH * statistics.median(costs.per_core(name))
        for name in costs.of
        if name.startswith("native, 16")
    )
    single, double = (f"{HEAVY}, 16 samples: --threads {threads}" for threads in (1, 2))
    found["threads2_vs_1"] = ratio(costs.per_thread(double, 2), costs.per_thread(single, 1))
    results, rows = {}, []
    for name, slices in costs.of.items():
        values = {
            "cpu_us": statistics.median(one.cpu_us for one in slices),
            "busiest_thread_us": statistics.median(one.busiest_us for one in slices),
            "p50_us": statistics.median(one.p50_us for one in slices),
            "requests_per_s": statistics.median(one.requests_per_s for one in slices),
        }
        results[name] = {key: round(value, 1) for key, value in values.items()}
        rows.append((name, *(f"{value:,.1f}" for value in values.values())))
    heads = ("subject", "CPU us", "busiest thread", "p50 us", "requests/s")
    return Report(results, _checks(found), [table("the native front", heads, rows)])


def _checks(found: dict[str, float]) -> list[Check]:
    return [Check(name, found.get(name), *target) for name, target in TARGETS.items()]
