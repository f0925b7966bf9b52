"""``python -m tests.benchmarks.looks``: a second look where the cloud is not sure, against one.

Thresholds are chosen on the validation split, results are on the test set, compared with the same
bundle at d = 1 whose samples the cloud answers all. The packed runtime of both halves and the real
codec run in this process: there are no latencies, and no server that could lose a sample.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.table import Table

from cloud.training.data.datasets import DATA_DIR_VARIABLE, Dataset, load
from cloud.training.split.evaluate import device_features
from cloud.training.split.exit_calibration import staying
from cloud.training.split.look_calibration import LevelAnswers, level_answers, measure, plans_of
from shared.bundles import bundle_path
from shared.model.bundle import Bundle, read_bundle
from shared.model.exits import read_calibration
from shared.model.looks import NO_LOOK, LookPlan, cheapest
from shared.packed import DeviceHalf
from tests.benchmarks.harness import Check, Report, main, table

# Points of accuracy that a plan may lose on the validation split.
SUBJECTS = (("mnist-binary", "mnist", 0.1), ("cifar10-binary", "cifar10", 0.5))
LIMITS = {"mnist-binary": ("looks", 0.37, 0.33), "cifar10-binary": ("looks_cifar", 0.85, 0.75)}
NORMAL_95 = 1.96


def run(full: bool) -> Report:
    """Compare the cheapest plan with one look at full width."""
    report = Report()
    folder = Path(os.environ.get(DATA_DIR_VARIABLE, "data"))
    for name, data, allowed in SUBJECTS:
        bundle = read_bundle(bundle_path(name))
        held, test = (load(data, folder, part) for part in ("validation", "test"))
        chosen = choose(level_answers(bundle, held.images, held.labels), allowed)
        answers = level_answers(bundle, test.images, test.labels)
        one, two, lost = compare(answers, chosen)
        exits = with_exits(bundle, answers, chosen, test)
        prefix, bytes_limit, macs_limit = LIMITS[name]
        bytes_ratio = two.payload_bytes / one.payload_bytes
        macs_ratio = two.device_macs / one.device_macs
        report.checks += [
            Check(f"{prefix}_bytes_vs_full", bytes_ratio, "", bytes_limit, "lower"),
            Check(f"{prefix}_mmac_vs_full", macs_ratio, "", macs_limit, "lower"),
            Check(f"{prefix}_points_lost", lost[0], "points", allowed, "lower"),
            Check(f"{prefix}_exit_bytes", exits[0], "bytes", two.payload_bytes, "lower"),
        ]
        report.results[name] = {
            "chosen": asdict(chosen), "test": asdict(two), "one_look": asdict(one),
            "points_lost": lost[0], "reach_95": lost[1],
            "exit_bytes": exits[0], "exit_accuracy": exits[1],
        }  # fmt: skip
        report.tables.append(_table(bundle, (one, two), lost))
    return report


def choose(held: list[LevelAnswers], allowed: float) -> LookPlan:
    """The cheapest plan that loses at most ``allowed`` points to d = 1 on these images."""
    full, _ = measure(held, len(held) - 1, NO_LOOK, 0.0)
    return cheapest(plans_of(held), full.accuracy - allowed / 100)


def compare(
    answers: list[LevelAnswers], chosen: LookPlan
) -> tuple[LookPlan, LookPlan, tuple[float, float]]:
    """One look at d = 1, the chosen plan, and the points lost with the reach of their interval."""
    one, right = measure(answers, len(answers) - 1, NO_LOOK, 0.0)
    two, right_of_two = measure(answers, chosen.first, chosen.second, chosen.ask_below)
    pairs = 100 * (right.astype(np.float64) - right_of_two)
    reach = NORMAL_95 * float(pairs.std()) / len(pairs) ** 0.5
    return one, two, (float(pairs.mean()), reach)


def with_exits(
    bundle: Bundle, answers: list[LevelAnswers], plan: LookPlan, test: Dataset
) -> tuple[float, float] | tuple[None, None]:
    """Mean bytes and accuracy if samples of which the exit head is sure stay at the first look."""
    calibration = read_calibration(bundle)
    if calibration is None:
        return None, None
    half, level, one = DeviceHalf(bundle), plan.first, answers[plan.first]
    logits = half.exit_logits(device_features(half, test.images, level), level)
    stays = staying(logits, calibration.threshold[level], calibration.temperature[level])
    sent = one.payload_bytes.astype(np.float64)
    if plan.second != NO_LOOK:
        asked = one.margin < np.float32(plan.ask_below)
        sent += np.where(asked, answers[plan.second].payload_bytes, 0)
    _, right = measure(answers, plan.first, plan.second, plan.ask_below)
    right = np.where(stays, logits.argmax(axis=1) == test.labels, right)
    return float(np.where(stays, 0, sent).mean()), float(right.mean())


def _table(bundle: Bundle, plans: tuple[LookPlan, ...], lost: tuple[float, float]) -> Table:
    levels = bundle.architecture.device_levels
    rows = [
        (
            f"{levels[plan.first]:g}",
            "-" if plan.second == NO_LOOK else f"{levels[plan.second]:g}",
            f"{100 * plan.accuracy:.2f}",
            f"{100 * plan.asked:.1f}",
            f"{plan.payload_bytes:.1f}",
            f"{plan.device_macs / 1e6:.2f}",
        )
        for plan in plans
    ]
    title = f"{bundle.metadata.name}: {lost[0]:+.2f} points lost, 95 % within {lost[1]:.2f}"
    return table(title, ("first", "second", "right %", "asked %", "bytes", "MMAC"), rows)


if __name__ == "__main__":
    main("looks", __doc__ or "", run)
