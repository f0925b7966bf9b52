"""``python -m tests.benchmarks.soak``: memory under steady load, and rolling restarts.

Memory is the resident set of the server under a mix of streams, calls, refusals and connections
that come and go; its growth is the slope of a line through the second half. Then two servers on
fixed ports are restarted in turn under the load of the device library.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import time
from contextlib import ExitStack
from typing import Any

import numpy as np

from protos.split.v1 import split_pb2 as pb
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import read_bundle
from shared.protocol.codec import Encoding
from tests.benchmarks.harness import Check, Report, show, table
from tests.benchmarks.load import INFER, INFER_STREAM, Caller
from tests.benchmarks.serving import bodies, started
from tests.support.clouds import free_port
from tests.support.devices import SERVED, load, progress
from tests.support.processes import start_server

SLICE_S = 0.25
RESTARTS = 6
SAMPLES_BETWEEN = 300
MB = 2**20
HOUR_S = 3600.0


def soak(seconds: float) -> tuple[list[float], list[float], int]:
    """Times, megabytes at each of them, requests that were answered."""
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


def growth_mb_per_hour(times: list[float], megabytes: list[float]) -> float:
    """The slope of a line through the second half."""
    half = len(times) // 2
    slope, _ = np.polyfit(times[half:], megabytes[half:], 1)
    return float(slope) * HOUR_S


async def restarts() -> tuple[int, int]:
    """Samples asked and those that failed while two servers were restarted in turn."""
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
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.soak", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of steady load (default: 30)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    begin = time.monotonic()
    times, megabytes, answered = soak(options.seconds)
    asked, failed = asyncio.run(restarts())
    growth = growth_mb_per_hour(times, megabytes)
    results: dict[str, Any] = {
        "seconds": options.seconds,
        "answered": answered,
        "mb_first": round(megabytes[0], 1),
        "mb_half": round(megabytes[len(megabytes) // 2], 1),
        "mb_last": round(megabytes[-1], 1),
        "restart_samples": asked,
    }
    checks = [
        Check("soak_mb_per_hour", round(growth, 2), "MB/h", 1.0, "lower"),
        Check("drain_failed", float(failed), "samples", 0.0, "lower"),
    ]
    rows = [(name, str(value)) for name, value in results.items()]
    report = Report(results, checks, [table("soak", ("what", "value"), rows)])
    show("soak", report, time.monotonic() - begin, None, options.json)


if __name__ == "__main__":
    main()
