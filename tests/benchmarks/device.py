"""``python -m tests.benchmarks.device``: the device's footprint, latency, battery life, endurance.

The footprint is that of the real command. Latency is measured with the real client and server, and
compared with a bare gRPC echo of the same bytes. Battery life is simulated with real test images.
Endurance (``tests.benchmarks.endurance``) is that of 10,000 samples while the server is killed and
started again 20 times.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from cloud.training.data.datasets import DATA_DIR_VARIABLE
from device import ClientSettings, SplitClient
from device.energy.recharge import DAY_S, NoRecharge
from device.energy.simulated_battery import Cell
from device.policy.auto import Goal
from device.simulate.command import FULL, WITH_EXIT, Setup, compare, verdict
from device.simulate.results import measure
from device.simulate.simulation import Workload
from device.split.pipeline import Pipeline
from device.split.sample import SampleResult
from device.split.settings import ModelSettings
from protos.split.v1 import split_pb2_grpc
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.data.sample import sample_digits
from shared.energy.hardware import MCU_BLE
from shared.images.idx import read_idx
from shared.model.bundle import Bundle, read_bundle
from shared.protocol.messages import Request, request_to_message
from tests.benchmarks import pictures
from tests.benchmarks.agent_days import agent_days
from tests.benchmarks.echo import STREAM, UNARY
from tests.benchmarks.endurance import endure
from tests.benchmarks.harness import Check, Report, main, table
from tests.benchmarks.live import live_fps
from tests.support.processes import ROOT, environment, start_server

STARTS = 7
CALLS_A_ROUND = 150
ROUNDS = 11
FRACTIONS = ("1.0", "0.3")
Call = Callable[[int], Awaitable[object]]
Images = npt.NDArray[np.uint8]


def model_name() -> str:
    """Return the name of the model to measure: the default one, or that of the environment."""
    return os.environ.get("TAPER_MODEL") or DEFAULT_MODEL


def run(full: bool) -> Report:
    """Measure everything; ``full`` takes more rounds."""
    report = Report()
    model = model_name()
    bundle = read_bundle(bundle_path(model))
    report.results["model"] = model
    with start_server("--model", model) as server:
        footprint(report, model, server.address)
        picture_folders(report, server.address)
        fps = round(live_fps(model, server.address), 1)
        report.checks.append(Check("live_fps", fps, "pictures/s", 60, "higher"))
        with running_echo() as echo:
            rounds = 4 * ROUNDS if full else ROUNDS
            asyncio.run(latency(report, model, server.address, echo, rounds))
    days = agent_days()
    report.results["agent days"] = days
    lost = days["telemetry_lost"] + days["samples_lost"]
    report.checks.append(Check("agent_days_lost", lost, "messages and samples", 0, "lower"))
    battery_life(report, bundle)
    found = asyncio.run(endure(model, bundle))
    report.results["endurance"] = found
    for name in ("kill_lost", "kill_wrong", "kill_twice"):
        report.checks.append(Check(name, found[name], "samples", 0, "lower"))
    return report


@contextmanager
def running_echo() -> Iterator[str]:
    """Run an echo server within a ``with`` block; yields its address."""
    command = [sys.executable, "-m", "tests.benchmarks.echo"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield line.removeprefix("listening on ").strip()
        finally:
            process.kill()


def footprint(report: Report, model: str, server: str) -> None:
    """Measure ``python -m device.client``: time to the first answer, peak memory, CPU per
    sample.
    """
    images = sample_digits()[0]
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "one.npy", images[:1])
        np.save(Path(folder) / "many.npy", np.concatenate([images] * 10))
        starts = [start_client(model, server, Path(folder) / "one.npy") for _ in range(STARTS)]
        many = start_client(model, server, Path(folder) / "many.npy")
    first_s = statistics.median(start["first_s"] for start in starts)
    rss_mb = max(many["rss_mb"], *(start["rss_mb"] for start in starts))
    one_cpu_s = statistics.median(start["cpu_s"] for start in starts)
    cpu_us = 1e6 * (many["cpu_s"] - one_cpu_s) / (10 * len(images) - 1)
    report.results["footprint"] = {
        "first_answer_s": [round(start["first_s"], 3) for start in starts],
        "peak_rss_mb": round(rss_mb, 1),
        "cpu_s_to_first_answer": round(one_cpu_s, 3),
        "cpu_us_a_sample": round(cpu_us, 1),
    }
    report.checks.append(Check("first_answer_s", round(first_s, 3), "s", 0.5, "lower"))
    report.checks.append(Check("peak_rss_mb", round(rss_mb, 1), "MB", 64, "lower"))


def picture_folders(report: Report, server: str) -> None:
    """Measure digits in every format, and a folder of 200 photographs of 12 megapixels."""
    with tempfile.TemporaryDirectory() as place:
        cases, photographs = Path(place) / "cases", Path(place) / "photographs"
        pictures.write_cases(cases)
        wrong, where = pictures.wrong_answers(DEFAULT_MODEL, server, cases)
        photographs.mkdir()
        pictures.write_photographs(photographs)
        found = start_client(DEFAULT_MODEL, server, photographs)
    report.results["pictures"] = {"cases": len(pictures.CASES), "wrong": where, **found}
    report.checks.append(Check("picture_cases_wrong", wrong, "pictures", 0, "lower"))
    report.checks.append(Check("folder_peak_mb", round(found["rss_mb"], 1), "MB", 120, "lower"))
    first_s = round(found["first_s"], 3)
    report.checks.append(Check("folder_first_answer_s", first_s, "s", 1, "lower"))


def start_client(model: str, server: str, images: Path) -> dict[str, float]:
    """Seconds to the first line of output, peak memory and CPU seconds of one client process."""
    command = [sys.executable, "-m", "device.client", "--server", server, "--model", model]
    command += ["--fraction", "1.0", "--no-exit", "--output", "jsonl", "--input", str(images)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE)
    if process.stdout is None:
        raise RuntimeError("no output")
    with process.stdout:
        json.loads(process.stdout.readline())
        first_s = time.perf_counter() - begin
        peak_mb = [peak_memory_mb(process.pid)]
        peak_mb += [peak_memory_mb(process.pid) for _ in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the client ended with {process.returncode}")
    return {
        "first_s": first_s,
        "rss_mb": max(peak_mb),
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def peak_memory_mb(pid: int) -> float:
    """The most memory that a process has had so far; 0 once it has ended.

    Not what ``wait4`` says: that includes what this process had when it started the other.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else 0.0


async def latency(report: Report, model: str, server: str, echo: str, rounds: int) -> None:
    """Measure samples on a stream and by unary calls, and an echo of the same bytes."""
    images = np.ascontiguousarray(sample_digits()[0][..., None])
    rows = []
    for fraction in FRACTIONS:
        found = await latency_at(fraction, images, model, server, echo, rounds)
        report.results[f"latency at {fraction}"] = found
        rows += [
            (f"{fraction} {name}", *(f"{found[name][q]:.0f}" for q in ("p50_us", "p99_us")))
            for name in ("stream", "echo stream", "unary", "echo unary")
        ]
        if fraction == FRACTIONS[0]:
            vs_echo, vs_unary = found["stream_p50_vs_echo"], found["stream_vs_unary_p50"]
            report.checks.append(Check("stream_p50_vs_echo", vs_echo, "", 1.15, "lower"))
            report.checks.append(Check("stream_vs_unary_p50", vs_unary, "", 0.6, "lower"))
        parts = found["parts_us"]
        rows.append((f"{fraction} parts: " + ", ".join(f"{k} {v:.0f}" for k, v in parts.items()),))
    report.tables.append(table("latency, us", ("call", "p50", "p99"), rows))


async def latency_at(
    fraction: str, images: Images, model: str, server: str, echo: str, rounds: int
) -> dict[str, Any]:
    """Measure all four kinds of call at one fraction, interleaved."""
    settings = ClientSettings(
        servers=(server,), model=ModelSettings(model), fraction=fraction, use_exit=False
    )
    async with (
        SplitClient(settings) as client,
        grpc.aio.insecure_channel(server) as channel,
        grpc.aio.insecure_channel(echo) as echo_channel,
    ):
        pipeline = Pipeline(client.bundle)
        level = (await client.classify(images[0])).fraction
        index = client.bundle.architecture.device_levels.index(level)
        payload = request_of(pipeline, images[0], index, 1).SerializeToString()
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        echo_call: Any = echo_channel.stream_stream(STREAM)()
        echo_unary: Any = echo_channel.unary_unary(UNARY)

        async def stream(number: int) -> object:
            return await client.classify(images[number])

        async def bare(_: int) -> object:
            await echo_call.write(payload)
            return await echo_call.read()

        async def unary(number: int) -> object:
            return await stub.Infer(request_of(pipeline, images[number], index, number))

        async def bare_unary(_: int) -> object:
            return await echo_unary(payload)

        subjects: dict[str, Call] = {
            "stream": stream,
            "echo stream": bare,
            "unary": unary,
            "echo unary": bare_unary,
        }
        times = await interleaved(subjects, rounds)
        results = [await client.classify(images[number]) for number in range(len(images))]
        echo_call.cancel()
    return {"payload_bytes": len(payload), **summary(times, results)}


def summary(times: dict[str, list[list[float]]], results: list[SampleResult]) -> dict[str, Any]:
    """Return the latencies of all kinds of call, those of a sample's parts, and the
    checked ratios.
    """
    medians = {name: [statistics.median(one) for one in times[name]] for name in times}
    total = statistics.median(result.latency_ms for result in results)
    parts = {
        name: 1000 * statistics.median(getattr(result, f"{name}_ms") for result in results)
        for name in ("device", "encode", "cloud")
    }
    parts["wire and server"] = 1000 * total - sum(parts.values())
    found: dict[str, Any] = {
        name: {
            "p50_us": round(1e6 * statistics.median(medians[name]), 1),
            "p99_us": round(1e6 * float(np.percentile(np.concatenate(times[name]), 99)), 1),
        }
        for name in times
    }
    found["parts_us"] = {name: round(value, 1) for name, value in parts.items()}
    found["stream_p50_vs_echo"] = ratio(medians["stream"], medians["echo stream"])
    found["stream_vs_unary_p50"] = ratio(medians["stream"], medians["unary"])
    return found


async def interleaved(subjects: dict[str, Call], rounds: int) -> dict[str, list[list[float]]]:
    """Measure the seconds of every call, by subject and round."""
    times: dict[str, list[list[float]]] = {name: [] for name in subjects}
    for turn in range(rounds + 1):
        for name, subject in subjects.items():
            taken = []
            for number in range(CALLS_A_ROUND):
                begin = time.perf_counter()
                await subject(number)
                taken.append(time.perf_counter() - begin)
            if turn:  # the first round warms up
                times[name].append(taken)
    return times


def ratio(above: list[float], below: list[float]) -> float:
    """Return the median over the rounds of one median divided by the other."""
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 3)


def request_of(pipeline: Pipeline, image: Images, level: int, number: int) -> Any:
    """Make the request of one image."""
    frame = pipeline.encode(pipeline.run(image, level), level)
    identity = pipeline.identity
    return request_to_message(Request(number, identity.model, identity.version, frame))


def battery_life(report: Report, bundle: Bundle) -> None:
    """Simulate seven days on a microcontroller with ``auto``, every fixed level and simple
    policies.
    """
    images, labels = test_set()
    begin = time.perf_counter()
    results = measure(bundle, images, labels)
    levels = [f"fixed:{fraction}" for fraction in bundle.architecture.device_levels]
    simple = ["linear", "step", *levels]
    names = ["auto", *simple, *(name + WITH_EXIT for name in simple)]
    setup = Setup(
        hardware=MCU_BLE,
        workload=Workload(),
        cell=Cell(MCU_BLE.battery_j),
        schedule=NoRecharge(),
        goal=Goal(lifetime_s=7 * DAY_S),
        max_wait_s=0.0,
    )
    outcomes = compare(bundle, results, setup, names)
    found = verdict(outcomes)
    report.results["battery"] = {
        "images": len(images),
        "seconds": round(time.perf_counter() - begin, 2),
        "dominating": found["auto_dominated_by"],
        "outcomes": {
            outcome.policy: {
                "life_days": round(outcome.life_days, 3),
                "accuracy": round(outcome.accuracy, 5),
                "on_device": round(outcome.on_device, 4),
                "energy_mj": round(outcome.energy_mj, 4),
                "changes": outcome.changes,
            }
            for outcome in outcomes
        },
    }
    rows = [
        (o.policy, f"{o.life_days:.2f}", f"{o.accuracy:.2%}", f"{o.on_device:.0%}")
        for o in outcomes
    ]
    report.tables.append(
        table(f"7 days, {MCU_BLE.name}", ("policy", "days", "accuracy", "on device"), rows)
    )
    life, loss = found["auto_life_vs_full"], found["auto_accuracy_loss"]
    report.checks += [
        Check("auto_life_vs_full", round(life, 3), f"times {FULL}", 2, "higher"),
        Check("auto_accuracy_loss", round(loss, 3), "points", 1, "lower"),
        Check("auto_dominated_by", len(found["auto_dominated_by"]), "baselines", 0, "lower"),
    ]


def test_set() -> tuple[Images, npt.NDArray[np.int64]]:
    """Return all MNIST test digits if they have been fetched, else the 200 that ship."""
    folder = Path(os.environ.get(DATA_DIR_VARIABLE, ROOT / "data")) / "mnist"
    files = [folder / f"t10k-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    if all(file.exists() for file in files):
        images, labels = (read_idx(file) for file in files)
    else:
        images, labels = sample_digits()
    return images[..., None], labels.astype(np.int64)


if __name__ == "__main__":
    main("device", (__doc__ or "").split("\n")[0], run)
