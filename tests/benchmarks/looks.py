"""``python -m tests.benchmarks.looks``: second looks of a real client with a real server.

Thresholds are those of the bundles' tables, which were chosen on the validation split. All results
are for the 10,000 test images, compared image by image with the same bundle at d = 1, where the
cloud answers all samples. ``--full`` kills the server 20 times, otherwise 5 times in 2,500 samples.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from cloud.training.data.datasets import DATA_DIR_VARIABLE, Dataset, load
from device import ClientSettings, SplitClient
from device.policy.simple import Decision, Look, Situation
from device.split.sample import SampleResult
from shared.bundles import bundle_path
from shared.model.bundle import Bundle, read_bundle
from shared.model.exits import NEVER
from shared.model.looks import NO_LOOK, LookPlan, cheapest, read_payloads, read_plans
from tests.benchmarks.harness import Check, Report, main, table
from tests.benchmarks.looks_battery import days
from tests.benchmarks.looks_deaths import deaths
from tests.support.processes import start_server

# The points of accuracy that a plan may lose, both on the validation split and on the test set.
SUBJECTS = (("mnist-binary", "mnist", 0.1), ("cifar10-binary", "cifar10", 0.5))
LIMITS = {"mnist-binary": ("looks", 0.37, 0.33), "cifar10-binary": ("looks_cifar", 0.85, 0.75)}
NORMAL_95 = 1.96
IN_FLIGHT = 8
LATENCY_ROUNDS, LATENCY_IMAGES = 5, 400


@dataclass(frozen=True)
class FixedPlan:
    """A policy that always chooses the same plan."""

    plan: LookPlan

    def decide(self, _: Situation) -> Decision:
        """Choose the looks of the plan."""
        plan = self.plan
        looks = [Look(plan.first, plan.exit_threshold, plan.escalate_below, plan.ask_below)]
        if plan.second != NO_LOOK:
            looks.append(Look(plan.second, NEVER))
        sent = max(1 - plan.stays - plan.escalated, 1e-9)
        return Decision(tuple(looks), asked=plan.asked / sent)


@dataclass(frozen=True)
class Measured:
    """The results of a plan on all images: right answers (N,), and means of a sample."""

    right: npt.NDArray[np.bool_]
    payload_bytes: float
    device_macs: float
    looks: float
    stayed: float
    first_looks: int

    @property
    def accuracy(self) -> float:
        """Return the share of right answers."""
        return float(self.right.mean())


def run(full: bool) -> Report:
    """Compare plans of the bundles' tables with one look at full width."""
    report = Report()
    folder = Path(os.environ.get(DATA_DIR_VARIABLE, "data"))
    names = [name for name, *_ in SUBJECTS]
    with start_server("--model", names[0], "--model", names[1], "--cloud-fraction", "1") as server:
        for name, data, allowed in SUBJECTS:
            bundle, test = read_bundle(bundle_path(name)), load(data, folder, "test")
            _accuracy(report, server.address, bundle, test, allowed)
        bundle, test = read_bundle(bundle_path(names[0])), load("mnist", folder, "test")
        _latency(report, server.address, bundle, test)
    for hardware in ("mcu-ble", "mcu-wifi"):
        found = days(bundle, test, 0.1, hardware)
        report.results[f"days_{hardware}"] = found
        name = f"looks_days_{hardware.replace('-', '_')}"
        report.checks.append(Check(name, found["ratio"], "x", 1.0, "higher"))
    kills, count = (20, 10_000) if full else (5, 2500)
    plan = FixedPlan(chosen(bundle, 0.1, exits=False))
    lost, twice, seen = asyncio.run(deaths(bundle, test.images[:count], plan, kills))
    report.results["deaths"] = seen
    report.checks += [
        Check("looks_lost", lost, "samples", 0, "lower"),
        Check("looks_twice", twice, "samples", 0, "lower"),
    ]
    return report


def chosen(bundle: Bundle, allowed: float, exits: bool) -> LookPlan:
    """Return the cheapest plan of the table that loses at most ``allowed`` points to d = 1.

    With ``exits`` it is the plan with the fewest bytes among those with the exit head.
    """
    full, *plans = read_plans(bundle)
    enough = full.accuracy - allowed / 100
    kind = [plan for plan in plans if plan.has_exit == exits and plan.second != NO_LOOK]
    if not exits:
        return cheapest([full, *kind], enough)
    return min(
        (plan for plan in kind if plan.accuracy >= enough), key=lambda plan: plan.payload_bytes
    )


def one_look(bundle: Bundle, level: int) -> LookPlan:
    """Make the plan that sends every sample at ``level`` and allows no second look."""
    size = (read_payloads(bundle) or ())[level]
    macs = float(bundle.architecture.device_macs(level))
    return LookPlan(level, NO_LOOK, NEVER, 0.0, 0, 0.0, 0.0, 0.0, 0.0, size, macs)


def _accuracy(report: Report, address: str, bundle: Bundle, test: Dataset, allowed: float) -> None:
    name = bundle.metadata.name
    widest = len(bundle.architecture.device_levels) - 1
    plans = {
        "one look": one_look(bundle, widest),
        "two looks": chosen(bundle, allowed, exits=False),
        "exits and two looks": chosen(bundle, allowed, exits=True),
    }
    found = {
        title: asyncio.run(classify(address, bundle, plan, test)) for title, plan in plans.items()
    }
    one, two, exits = found.values()
    prefix, bytes_limit, macs_limit = LIMITS[name]
    lost, reach = paired(one, two)
    exits_lost, exits_reach = paired(one, exits)
    bytes_ratio = two.payload_bytes / one.payload_bytes
    macs_ratio = two.device_macs / one.device_macs
    report.checks += [
        Check(f"{prefix}_bytes_vs_full", bytes_ratio, "", bytes_limit, "lower"),
        Check(f"{prefix}_mmac_vs_full", macs_ratio, "", macs_limit, "lower"),
        Check(f"{prefix}_points_lost", lost, "points", allowed, "lower"),
        Check(f"{prefix}_exit_bytes", exits.payload_bytes, "bytes", two.payload_bytes, "lower"),
        Check(f"{prefix}_exit_points_lost", exits_lost, "points", allowed, "lower"),
    ]
    report.results[name] = {"reach_95": reach, "exit_reach_95": exits_reach} | {
        title: {
            "accuracy": one.accuracy,
            "payload_bytes": one.payload_bytes,
            "mmac": one.device_macs / 1e6,
            "looks": one.looks,
            "stayed": one.stayed,
            "first_looks": one.first_looks,
        }
        for title, one in found.items()
    }
    report.tables.append(_table(bundle, plans, found))


async def classify(address: str, bundle: Bundle, plan: LookPlan, test: Dataset) -> Measured:
    """Classify every test image with a client that uses ``plan``."""
    settings = ClientSettings(servers=(address,), wait_s=60.0, timeout_s=60.0)
    results: list[SampleResult] = []
    async with SplitClient(settings, bundle=bundle, policy=FixedPlan(plan)) as client:
        coming = iter(enumerate(test.images))

        async def work() -> None:
            for index, image in coming:
                results.append(await client.classify(image, index))

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    results.sort(key=lambda result: result.index)
    if [result.index for result in results] != list(range(len(test.images))):
        raise RuntimeError("a sample has no answer, or two")
    levels = bundle.architecture.device_levels
    macs = {f: bundle.architecture.device_macs(level) for level, f in enumerate(levels)}
    count = len(results)
    return Measured(
        np.array([result.label for result in results]) == test.labels,
        sum(result.payload_bytes for result in results) / count,
        sum(macs[fraction] for result in results for fraction in result.looks) / count,
        sum(len(result.looks) for result in results) / count,
        sum(result.source == "device" for result in results) / count,
        sum(result.first_look for result in results),
    )


def paired(one: Measured, other: Measured) -> tuple[float, float]:
    """Return the points that ``other`` loses to ``one``, and half the 95 % interval."""
    pairs = 100 * (one.right.astype(np.float64) - other.right)
    return float(pairs.mean()), NORMAL_95 * float(pairs.std()) / len(pairs) ** 0.5


def _latency(report: Report, address: str, bundle: Bundle, test: Dataset) -> None:
    """Compare the latency of two looks and of one with about as many bytes, in turn."""
    plan = chosen(bundle, 0.1, exits=False)
    payloads = read_payloads(bundle) or ()
    sizes = [abs(size - plan.payload_bytes) for size in payloads]
    single = one_look(bundle, sizes.index(min(sizes)))
    found = asyncio.run(_latencies(address, bundle, test, (plan, single)))
    two, one = (np.array(values) for values in found)
    ratio = float(np.median(two) / np.median(one))
    report.results["latency_ms"] = {
        "two_p50": float(np.median(two)), "two_mean": float(two.mean()),
        "one_p50": float(np.median(one)), "one_mean": float(one.mean()),
        "one_fraction": bundle.architecture.device_levels[single.first],
        "mean_ratio": float(two.mean() / one.mean()),
    }  # fmt: skip
    report.checks.append(Check("looks_vs_single_p50", ratio, "x", 1.5, "lower"))


async def _latencies(
    address: str, bundle: Bundle, test: Dataset, plans: tuple[LookPlan, ...]
) -> list[list[float]]:
    settings = ClientSettings(servers=(address,), wait_s=60.0, timeout_s=60.0)
    found: list[list[float]] = [[] for _ in plans]
    for turn in range(LATENCY_ROUNDS):
        images = test.images[turn * LATENCY_IMAGES :][:LATENCY_IMAGES]
        for plan, latencies in zip(plans, found, strict=True):
            async with SplitClient(settings, bundle=bundle, policy=FixedPlan(plan)) as client:
                await client.classify(images[0])
                for image in images:
                    latencies.append((await client.classify(image)).latency_ms)
    return found


def _table(bundle: Bundle, plans: dict[str, LookPlan], found: dict[str, Measured]) -> Table:
    levels = bundle.architecture.device_levels
    rows: list[tuple[Any, ...]] = []
    for title, plan in plans.items():
        one = found[title]
        then = "-" if plan.second == NO_LOOK else f"{levels[plan.second]:g}"
        rows.append(
            (
                title,
                f"{levels[plan.first]:g}",
                then,
                f"{100 * one.accuracy:.2f}",
                f"{100 * one.stayed:.1f}",
                f"{one.looks:.3f}",
                f"{one.payload_bytes:.1f}",
                f"{one.device_macs / 1e6:.2f}",
            )
        )
    headings = ("plan", "first", "second", "right %", "here %", "looks", "bytes", "MMAC")
    return table(bundle.metadata.name, headings, rows)


if __name__ == "__main__":
    main("looks", __doc__ or "", run)
