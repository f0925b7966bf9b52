"""``python -m tests.benchmarks.serving``: the server against a bare gRPC server of its messages.

Servers run in turn on one core, the load on another. They are compared with the generated code of
our messages with a fixed answer, on plain grpc.aio (which the checks use), on grpc.aio over uvloop
and on gRPC's thread pool, and with an echo of bytes. For whole images they are compared with KServe
and LitServe in environments of their own (installed once; the float network that they serve is
trained once from the MNIST images in ``TAPER_DATA``); if these cannot be had, their checks have no
values.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import psutil

from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.data.sample import sample_digits
from shared.errors import UsageError
from shared.fractions import level_for
from shared.model.bundle import Bundle, read_bundle
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from shared.protocol.engine import engine_of
from shared.protocol.messages import Request, request_to_message
from tests.benchmarks import fairness, native_front
from tests.benchmarks.echo import STREAM, UNARY
from tests.benchmarks.fairness import Shares
from tests.benchmarks.harness import Check, Report, calls, interleaved, main, ratio, table
from tests.benchmarks.load import INFER, INFER_STREAM, Caller
from tests.benchmarks.whole_images import KSERVE_NAME, LITSERVE_NAME, OURS, contenders
from tests.support.processes import ROOT, environment

IN_FLIGHT = (1, 16, 64)
FRACTION = 0.3
BATCH = 16
ROUNDS, SECONDS = 5, 0.4
PEER = "messages, grpc.aio"


@dataclass(frozen=True)
class Subject:
    """A server process, and the requests that are sent to it."""

    process: psutil.Process
    address: str
    unary: str
    stream: str
    bodies: Sequence[bytes]


@dataclass(frozen=True)
class Measured:
    """The results of a slice of load."""

    requests_per_s: float
    p50_us: float
    p99_us: float
    cpu_us: float


@contextmanager
def started(cpu: int | None, *words: str) -> Iterator[tuple[psutil.Process, str]]:
    """Run a server program on one CPU; yields its process and address."""
    command = [sys.executable, "-m", *words]
    if cpu is not None:
        command = ["taskset", "--cpu-list", str(cpu), *command]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        yield psutil.Process(process.pid), line.split()[-1]
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def cpus() -> tuple[int | None, int]:
    """Return a CPU for the server, if there are two, and that of the load."""
    own = max(os.sched_getaffinity(0))
    every = sorted(os.sched_getaffinity(0) | set(range(os.cpu_count() or 1)))
    return next((other for other in every if other != own), None), own


def bodies(bundle: Bundle, samples: int, encoding: Encoding, top_k: int = 0) -> list[bytes]:
    """Make requests of ``samples`` real digits each."""
    level = level_for(FRACTION, bundle.architecture.device_levels)
    images, _ = sample_digits()
    features = DeviceHalf(bundle).run(images[..., None], level)
    codec = FeatureCodec(bundle)
    frames = [
        codec.encode_as(features[start : start + samples], level, encoding)
        for start in range(0, len(features) - samples + 1, samples)
    ]
    requests = [Request(place, "", "", frame, top_k=top_k) for place, frame in enumerate(frames)]
    return [request_to_message(request).SerializeToString() for request in requests]


def measure(subject: Subject, kind: str, in_flight: int) -> Measured:
    """Measure a slice of load on ``subject``."""
    caller = Caller(subject.address, getattr(subject, kind), subject.bodies)
    try:
        before = sum(subject.process.cpu_times()[:2])
        load = getattr(caller, kind)(in_flight, SECONDS)
        cpu_s = sum(subject.process.cpu_times()[:2]) - before
    finally:
        caller.close()
    latencies = sorted(load.latencies)
    answered = load.answered - load.refused
    return Measured(
        answered / load.seconds,
        statistics.median(latencies) * 1e6,
        latencies[int(0.99 * (len(latencies) - 1))] * 1e6,
        cpu_s / max(answered, 1) * 1e6,
    )


def middle(slices: Sequence[Measured]) -> Measured:
    """Return the median of each value."""
    columns = zip(*(asdict(one).values() for one in slices), strict=True)
    return Measured(*(round(statistics.median(column), 1) for column in columns))


def run(full: bool) -> Report:
    """Measure everything; ``full`` takes three times the rounds."""
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    one = bodies(bundle, 1, Encoding.CONTEXT)
    sixteen = bodies(bundle, BATCH, Encoding.CONTEXT)
    raw = bodies(bundle, BATCH, Encoding.RAW)
    cpu, _ = cpus()
    narrow = ("cloud.server", "--host", "127.0.0.1", "--port", "0", "--cloud-fraction")
    with (
        started(cpu, "tests.benchmarks.echo") as echo,
        started(cpu, "tests.benchmarks.message_echo") as messages,
        started(cpu, "tests.benchmarks.message_echo", "--uvloop") as faster,
        started(cpu, "tests.benchmarks.message_echo", "--threads") as threads,
        started(cpu, *narrow, "1.0") as ours,
        started(cpu, *narrow, "0.25") as quarter,
    ):
        subjects = {
            "bytes, grpc.aio": Subject(*echo, UNARY, STREAM, one),
            PEER: Subject(*messages, INFER, INFER_STREAM, one),
            "messages, grpc.aio on uvloop": Subject(*faster, INFER, INFER_STREAM, one),
            "messages, thread pool": Subject(*threads, INFER, INFER_STREAM, one),
            "ours": Subject(*ours, INFER, INFER_STREAM, one),
            "ours, c = 0.25": Subject(*quarter, INFER, INFER_STREAM, one),
            "ours, 16 samples": Subject(*ours, INFER, INFER_STREAM, sixteen),
            "ours, 16 raw samples": Subject(*ours, INFER, INFER_STREAM, raw),
            "ours, 16 raw samples, c = 0.25": Subject(*quarter, INFER, INFER_STREAM, raw),
        }
        found: dict[tuple[str, int, str], list[Measured]] = {}
        images: dict[str, list[float]] = {}
        shares = Shares()
        with contenders(ours[0].pid, ours[1], cpu) as rivals:
            for _ in range(ROUNDS * (3 if full else 1)):
                for kind in ("unary", "stream"):
                    for in_flight in IN_FLIGHT:
                        for name, subject in subjects.items():
                            key = (kind, in_flight, name)
                            found.setdefault(key, []).append(measure(subject, kind, in_flight))
                for name, rival in rivals.items():
                    images.setdefault(name, []).append(rival.rate(SECONDS))
                fairness.measure(ours[1], one, SECONDS, shares)
            beside = native_front.Subjects(
                peer=(messages[0].pid, messages[1]),
                ours=ours[1],
                kserve=rivals.get(KSERVE_NAME),
                cpu=cpu,
                single=one,
                batches={"16 samples": sixteen, "16 raw samples": raw},
            )
            native = native_front.run(beside, ROUNDS * (3 if full else 1), SECONDS)
    made = report(found)
    add_images(made, images)
    add_shares(made, shares)
    made.checks.append(Check("top_k_us", top_k_us(bundle), "us", 2, "lower"))
    made.results["native front"] = native.results
    made.checks += native.checks
    made.tables += native.tables
    return made


def top_k_us(bundle: Bundle) -> float:
    """Measure in the engine the added time of a sample's best ten classes beside its label."""
    engine = engine_of(CloudHalf(bundle), FeatureCodec(bundle), bundle)
    if engine is None:
        raise UsageError("TAPER_KERNEL: this is about the compiled engine")
    architecture = bundle.architecture
    engine.set_most_samples([1] * len(architecture.device_levels))
    widest = len(architecture.cloud_levels) - 1
    one = {
        name: partial(engine.answer, bodies(bundle, 1, Encoding.RAW, top_k)[0], widest, None, False)
        for name, top_k in (("label", 0), ("ten", 10))
    }
    for answer in one.values():
        assert answer() is not None
    times = interleaved({name: calls(answer) for name, answer in one.items()})
    return statistics.median(
        (ten - label) * 1e6 for ten, label in zip(times["ten"], times["label"], strict=True)
    )


def add_images(made: Report, images: dict[str, list[float]]) -> None:
    """Add the table and checks of whole images."""
    medians = {name: statistics.median(rates) for name, rates in images.items()}
    made.results["whole images"] = medians
    rows = [(name, f"{rate:,.0f}") for name, rate in medians.items()]
    made.tables.append(table("whole images, 16 in flight", ("server", "answers/s"), rows))
    for check, peer, target in (
        ("oip_vs_kserve", KSERVE_NAME, 1.8),
        ("oip_vs_litserve", LITSERVE_NAME, 3.5),
    ):
        value = ratio(images[OURS], images[peer]) if peer in images else None
        made.checks.append(Check(check, value, "", target, "higher"))


def add_shares(made: Report, shares: Shares) -> None:
    """Add the table and check of a small client beside a large one."""
    rows = []
    for in_flight, alone in shares.alone.items():
        latencies = sorted(shares.latencies_us[in_flight])
        values = (
            statistics.median(alone),
            statistics.median(shares.beside[in_flight]),
            statistics.median(latencies),
            latencies[int(0.99 * (len(latencies) - 1))],
        )
        made.results[f"beside a large client, {in_flight} in flight"] = values
        rows.append((f"{in_flight} in flight", *(f"{value:,.0f}" for value in values)))
    heads = ("small client", "alone/s", "beside/s", "p50 us", "p99 us")
    title = "one sample a request on a stream, beside a client with two of 1,024 in flight"
    made.tables.append(table(title, heads, rows))
    made.checks.append(Check("fair_small_client", shares.share(16), "", 0.4, "higher"))


def report(found: dict[tuple[str, int, str], list[Measured]]) -> Report:
    """Make the report with tables, raw medians and checks."""
    medians = {key: middle(slices) for key, slices in found.items()}
    results: dict[str, Any] = {
        f"{kind} {in_flight} {name}": asdict(value)
        for (kind, in_flight, name), value in medians.items()
    }
    rows = [
        (
            f"{kind}, {in_flight} in flight: {name}",
            f"{value.requests_per_s:,.0f}",
            f"{value.p50_us:,.0f}",
            f"{value.p99_us:,.0f}",
            f"{value.cpu_us:,.0f}",
        )
        for (kind, in_flight, name), value in medians.items()
    ]

    def against(kind: str) -> float:
        rates = {
            name: [one.requests_per_s for one in found[kind, 16, name]] for name in ("ours", PEER)
        }
        return ratio(rates["ours"], rates[PEER])

    added = statistics.median(
        ours.p50_us - peer.p50_us
        for ours, peer in zip(found["stream", 1, "ours"], found["stream", 1, PEER], strict=True)
    )
    samples = max(
        BATCH * value.requests_per_s
        for (_, _, name), value in medians.items()
        if name in ("ours, 16 samples", "ours, 16 raw samples")
    )
    checks = [
        Check("unary_vs_echo", against("unary"), "", 0.9, "higher"),
        Check("stream_vs_echo", against("stream"), "", 0.9, "higher"),
        Check("batch16_samples_per_s", samples, "samples/s", 120_000, "higher"),
        Check("added_p50_us", added, "us", 20, "lower"),
    ]
    title = f"requests of {DEFAULT_MODEL} at d = {FRACTION}; the server on one core"
    heads = ("subject", "requests/s", "p50 us", "p99 us", "CPU us")
    return Report(results, checks, [table(title, heads, rows)])


if __name__ == "__main__":
    main("serving", str(__doc__).splitlines()[0], run)
