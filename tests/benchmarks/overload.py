"""``python -m tests.benchmarks.overload``: three times the load that a server can carry at c = 1.

It is sent in turn to our server, which may narrow, and to the same server pinned to c = 1. Requests
come at a fixed rate on 64 streams, with 64 raw samples each, so that computing is the limit and not
the protocol.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import read_bundle
from shared.protocol.codec import Encoding
from tests.benchmarks.flood import TOKENS, Flood, Outcome, token_file
from tests.benchmarks.harness import Check, Report, main, table
from tests.benchmarks.load import INFER_STREAM, Caller
from tests.benchmarks.serving import bodies, cpus, started

SAMPLES = 64
TIMES = 3.0
SLO_MS = 50.0
SETTLE_S, OVERLOAD_S, QUIET_S = 1.0, 4.0, 7.0
CALM = 0.25  # share of the capacity that is offered after the overload
ROUNDS = 3


@dataclass(frozen=True)
class Phase:
    """The results of an overload of one server, and of the calm after it."""

    offered_per_s: float
    answered_per_s: float
    refused: float
    p99_ms: float
    recovery_s: float | None
    lowest_level: int


def capacity(address: str, requests: list[bytes]) -> float:
    """Measure the requests a second that a server answers at c = 1, with 16 in flight."""
    loads = []
    for seconds in (0.5, 2.0):  # the first to warm up
        metadata = {"authorization": f"Bearer {TOKENS[0]}"}
        with contextlib.closing(Caller(address, INFER_STREAM, requests, metadata)) as caller:
            loads.append(caller.stream(16, seconds))
    return loads[-1].answered / loads[-1].seconds


def overload(address: str, requests: list[bytes], rate_per_s: float, top: int) -> Phase:
    """Overload a server, then let it recover."""
    with contextlib.closing(Flood(address, requests)) as flood:
        flood.send(rate_per_s, SETTLE_S)
        loud = flood.send(rate_per_s, OVERLOAD_S)
        calm = flood.send(CALM * rate_per_s / TIMES, QUIET_S)
    return Phase(
        round(loud.sent / OVERLOAD_S),
        round(loud.answered / OVERLOAD_S),
        round(loud.refused / max(loud.answered + loud.refused, 1), 4),
        round(loud.p99_us / 1000, 2),
        recovery(calm, top),
        min((level for _, level in loud.levels), default=top),
    )


def recovery(calm: Outcome, top: int) -> float | None:
    """Return the seconds until all answers were at the widest level; None if they never were."""
    narrow = [second for second, level in calm.levels if level < top]
    if not calm.levels or calm.levels[-1][1] < top:
        return None
    return round(max(narrow, default=0.0), 2)


def run(full: bool) -> Report:
    """Overload both servers in turn; ``full`` takes three times the rounds."""
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    requests = bodies(bundle, SAMPLES, Encoding.RAW)
    top = len(bundle.architecture.cloud_levels) - 1
    cpu, _ = cpus()
    phases: dict[str, list[Phase]] = {"ours": [], "fixed": []}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        common = ["--host", "127.0.0.1", "--port", "0", "--slo-ms", str(SLO_MS)]
        common += ["--token-file", str(token_file(folder))]
        _, ours = stack.enter_context(started(cpu, "cloud.server", *common))
        common += ["--cloud-fraction", "1"]
        _, fixed = stack.enter_context(started(cpu, "cloud.server", *common))
        able = capacity(fixed, requests)
        sys.stderr.write(f"capacity at c = 1: {able:,.0f} requests/s of {SAMPLES} samples\n")
        for _ in range(ROUNDS * (3 if full else 1)):
            for name, address in (("ours", ours), ("fixed", fixed)):
                phases[name].append(overload(address, requests, TIMES * able, top))
                sys.stderr.write(f"{name}: {phases[name][-1]}\n")
    return report(able, phases)


def report(able: float, phases: dict[str, list[Phase]]) -> Report:
    """Make the report with table and checks."""

    def middle(name: str, value: str) -> float:
        found: float = statistics.median(getattr(phase, value) for phase in phases[name])
        return found

    rows, results = [], {"capacity_per_s": round(able)}
    for name in phases:
        found: dict[str, Any] = {
            value: middle(name, value)
            for value in ("offered_per_s", "answered_per_s", "refused", "p99_ms")
        }
        results[name] = found  # type: ignore[assignment]
        rows.append((name, *(f"{value:g}" for value in found.values())))
    times = [phase.recovery_s for phase in phases["ours"]]
    recovered = None if None in times else max(time for time in times if time is not None)
    results["levels"] = [phase.lowest_level for phase in phases["ours"]]  # type: ignore[assignment]
    fixed = middle("fixed", "refused")
    checks = [
        Check("overload_p99_vs_slo", middle("ours", "p99_ms") / SLO_MS, "", 1.2, "lower"),
        Check(
            "overload_refused_vs_fixed",
            middle("ours", "refused") / fixed if fixed else None,
            "",
            0.5,
            "lower",
        ),
        Check("overload_recovery_s", recovered, "s", 5.0, "lower"),
    ]
    heads = ("server", "sent/s", "answered/s", "share refused", "p99 ms")
    title = f"{TIMES:g} times the capacity at c = 1, objective {SLO_MS:g} ms"
    return Report(results, checks, [table(title, heads, rows)])


if __name__ == "__main__":
    main("overload", str(__doc__).splitlines()[0], run)
