"""``python -m tests.benchmarks.soak``: memory under load and reloads, and rolling restarts.

Memory is the resident set of the server under a mix of streams, calls, refusals and connections
that come and go; its growth is the slope of a line that is fitted to the second half. Then a bundle
in a watched folder is replaced again and again, and each version must answer before the next one
comes. Finally two servers on fixed ports are restarted in turn while the device library uses them.
With ``TAPER_FRONT=native`` all servers have the native front.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import make_bundle, read_bundle, write_bundle
from shared.protocol.codec import Encoding
from tests.benchmarks.harness import Check, Report, show, table
from tests.benchmarks.load import INFER, INFER_STREAM, Caller
from tests.benchmarks.serving import bodies, started
from tests.benchmarks.whole_images import MODEL_INFER, requests
from tests.support.clouds import free_port
from tests.support.devices import SERVED, load, progress
from tests.support.processes import start_server

SLICE_S = 0.25
RESTARTS = 6
SAMPLES_BETWEEN = 300
ASKED = 5  # number of requests to each version, by both protocols
PATIENCE_S = 30.0
MB = 2**20
HOUR_S = 3600.0


def soak(seconds: float) -> tuple[list[float], list[float], int]:
    """Return times, megabytes at each of them, and the number of answered requests."""
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    good = bodies(bundle, 1, Encoding.CONTEXT)
    bad = [pb.InferRequest(id=1, level=99, payload=b"x").SerializeToString()]
    kinds = itertools.cycle([("stream", good), ("unary", good), ("stream", [*good, *bad])])
    times, megabytes, answered = [], [], 0
    with started(None, "cloud.server", "--host", "127.0.0.1", "--port", "0") as (process, address):
        began_s = time.monotonic()
        while (now_s := time.monotonic() - began_s) < seconds:
            kind, requests = next(kinds)
            path = INFER if kind == "unary" else INFER_STREAM
            with contextlib.closing(Caller(address, path, requests)) as caller:
                answered += getattr(caller, kind)(16, SLICE_S).answered
            times.append(now_s)
            megabytes.append(process.memory_info().rss / MB)
            if len(times) % 200 == 0:
                sys.stderr.write(f"{now_s:.0f} s: {megabytes[-1]:.1f} MB\n")
    return times, megabytes, answered


def reloads(count: int) -> list[float]:
    """Return the megabytes after each of ``count`` new versions of a bundle has answered."""
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    good, images = bodies(bundle, 1, Encoding.CONTEXT), requests(DEFAULT_MODEL)
    megabytes = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_bundle(bundle, path)
        flags = ("--models", folder, "--models-poll-seconds", "0.05")
        command = ("cloud.server", "--host", "127.0.0.1", "--port", "0", *flags)
        with started(None, *command) as (process, address), grpc.insecure_channel(address) as to:
            infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = to.unary_unary(INFER)
            infer_images: grpc.UnaryUnaryMultiCallable[bytes, bytes] = to.unary_unary(MODEL_INFER)
            stub = split_pb2_grpc.SplitInferenceStub(to)
            for number in range(count):
                names = tuple(f"{name}-{number}" for name in bundle.metadata.class_names)
                metadata = replace(bundle.metadata, class_names=names)
                made = make_bundle(metadata, bundle.tensors)
                write_bundle(made, path)
                end_s = time.monotonic() + PATIENCE_S
                while stub.GetModel(pb.GetModelRequest()).version != made.metadata.version:
                    assert time.monotonic() < end_s, f"version {number} is not served"
                    time.sleep(0.01)
                for place in range(ASKED):
                    infer(good[place])
                    infer_images(images[place])
                megabytes.append(process.memory_info().rss / MB)
    return megabytes


def growth_mb(steps: Sequence[float], megabytes: Sequence[float]) -> float:
    """Return the slope of a line fitted to the second half, in megabytes per step."""
    half = len(steps) // 2
    slope, _ = np.polyfit(steps[half:], megabytes[half:], 1)
    return float(slope)


def growth_mb_per_hour(times: list[float], megabytes: list[float]) -> float:
    """Return the slope of a line fitted to the second half."""
    return growth_mb(times, megabytes) * HOUR_S


async def restarts() -> tuple[int, int]:
    """Return samples sent and samples failed while two servers were restarted in turn."""
    ports = [free_port(), free_port()]
    with ExitStack() as outer:
        running = [ExitStack(), ExitStack()]
        for stack, port in zip(running, ports, strict=True):
            stack.enter_context(start_server(*SERVED, port=port))
            outer.push(stack)
        async with load(*(f"127.0.0.1:{port}" for port in ports)) as tally:
            for turn in range(RESTARTS):
                await progress(tally, SAMPLES_BETWEEN)
                place = turn % 2
                await asyncio.to_thread(running[place].close)  # SIGTERM, and wait
                server = start_server(*SERVED, port=ports[place])
                await asyncio.to_thread(running[place].enter_context, server)
            await progress(tally, SAMPLES_BETWEEN)
        failed = sum(count != 1 for count in tally.answers) + tally.wrong
        return tally.asked, failed


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.soak", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of steady load (default: 30)")
    parser.add_argument("--reloads", type=int, default=20, help="of a model (default: 20)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    begin = time.monotonic()
    times, megabytes, answered = soak(options.seconds)
    after_reloads = reloads(options.reloads)
    asked, failed = asyncio.run(restarts())
    growth = growth_mb_per_hour(times, megabytes)
    each = growth_mb(range(options.reloads), after_reloads)
    results: dict[str, Any] = {
        "seconds": options.seconds,
        "answered": answered,
        "mb_first": round(megabytes[0], 1),
        "mb_half": round(megabytes[len(megabytes) // 2], 1),
        "mb_last": round(megabytes[-1], 1),
        "reloads": options.reloads,
        "reload_mb_first": round(after_reloads[0], 1),
        "reload_mb_half": round(after_reloads[options.reloads // 2], 1),
        "reload_mb_last": round(after_reloads[-1], 1),
        "restart_samples": asked,
    }
    name = (
        "native_soak_mb_per_hour"
        if os.environ.get("TAPER_FRONT") == "native"
        else "soak_mb_per_hour"
    )
    checks = [
        Check(name, round(growth, 2), "MB/h", 1.0, "lower"),
        Check("reload_mb_per_100", round(100 * each, 2), "MB", 1.0, "lower"),
        Check("drain_failed", float(failed), "samples", 0.0, "lower"),
    ]
    rows = [(name, str(value)) for name, value in results.items()]
    report = Report(results, checks, [table("soak", ("what", "value"), rows)])
    show("soak", report, time.monotonic() - begin, None, options.json)


if __name__ == "__main__":
    main()
