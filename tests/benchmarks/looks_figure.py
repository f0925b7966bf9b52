"""``python -m tests.benchmarks.looks_figure``: accuracy over bytes and operations, by ways to look.

Plans are chosen on the validation split and measured on the test set, with the packed runtime of
both halves and the real codec. The points of pictures that are sent instead come from
``docs/results/wire-*.json``. Writes ``docs/results/looks.json`` and ``docs/images/looks.svg``;
``--plot-only`` draws the last measurement.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cloud.training.data.datasets import DATA_DIR_VARIABLE, load
from cloud.training.split.look_calibration import (
    Choice,
    LevelAnswers,
    choices,
    level_answers,
    measure,
)
from shared.bundles import bundle_path
from shared.model.bundle import read_bundle
from shared.model.looks import NO_LOOK, LookPlan
from tests.benchmarks.curves import DOCS, named, read

SUBJECTS = (("mnist-binary", "mnist"), ("cifar10-binary", "cifar10"))
RESULTS, IMAGE = DOCS / "results" / "looks.json", DOCS / "images" / "looks.svg"
WAYS = ("one look", "two looks", "exits", "exits and two looks")
COLOURS = dict(zip(WAYS, ("#57606a", "#1f6feb", "#bf8700", "#2da44e"), strict=True))
BYTES, OPERATIONS = "payload_bytes", "device_macs"
LEAST_GAIN = 0.0005  # least difference in accuracy from one point of a line to the next
Points = dict[str, list[dict[str, float]]]  # by way to look


def points_of(held: Sequence[LevelAnswers], test: Sequence[LevelAnswers]) -> dict[str, Points]:
    """Return, by cost, the plans on the validation split's frontier, measured on the test set."""
    plans: dict[str, list[tuple[LookPlan, Choice]]] = {way: [] for way in WAYS}
    for exits in (False, True):
        for choice in choices(held, exits):
            two = choice.second != NO_LOOK
            way = WAYS[2 * exits + two]
            plans[way].append((measure(held, choice)[0], choice))
    return {
        cost: {way: _frontier(found, test, cost) for way, found in plans.items()}
        for cost in (BYTES, OPERATIONS)
    }


def _frontier(
    found: Sequence[tuple[LookPlan, Choice]], test: Sequence[LevelAnswers], cost: str
) -> list[dict[str, float]]:
    """Return the plans that are more accurate than every cheaper one on the validation split."""
    kept: list[Choice] = []
    best = 0.0
    for plan, choice in sorted(found, key=lambda one: (getattr(one[0], cost), -one[0].accuracy)):
        if plan.accuracy > best + LEAST_GAIN:
            best = plan.accuracy
            kept.append(choice)
    tested = [measure(test, choice)[0] for choice in kept]
    return [
        {"cost": round(getattr(plan, cost), 2), "accuracy": round(plan.accuracy, 4)}
        for plan in tested
    ]


def draw(found: dict[str, dict[str, Points]], path: Path) -> None:
    """Plot error over bytes and over operations, both logarithmic."""
    with rc_context({"svg.hashsalt": "taper", "font.size": 8}):
        figure = Figure(figsize=(9, 6.6), layout="constrained")
        rows = figure.subplots(2, 2)
        for (_, data), (left, right) in zip(SUBJECTS, rows, strict=True):
            _lines(left, found[data][BYTES], lambda cost: max(cost, 0.5))
            _pictures(left, data)
            _lines(right, found[data][OPERATIONS], lambda cost: cost / 1e6)
            left.set(xlabel="mean payload, bytes a test image", ylabel="wrong answers, percent")
            right.set(xlabel="device operations, million a test image")
            left.set_title(f"{data}: 10,000 test images", loc="left", fontsize=9)
            for axes in (left, right):
                axes.set(xscale="log", yscale="log")
                for axis in (axes.xaxis, axes.yaxis):
                    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
                    axis.set_major_formatter("{x:g}")
                    axis.set_minor_formatter(NullFormatter())
                axes.grid(visible=True, alpha=0.2)
            left.legend(fontsize=7, frameon=False)
        figure.savefig(path, metadata={"Date": None})


def _lines(axes: Axes, points: Points, scale: Callable[[float], float]) -> None:
    for way, found in points.items():
        costs = [scale(point["cost"]) for point in found]
        errors = [100 * (1 - point["accuracy"]) for point in found]
        axes.plot(costs, errors, marker=".", ms=4, lw=1.2, color=COLOURS[way], label=way)


def _pictures(axes: Axes, data: str) -> None:
    """Plot the points of sending a picture instead."""
    curves = read(data)
    if curves is None:
        return
    for start, label, marker in (
        ("1-bit", "1-bit image", "x"), ("WEBP q", "WebP", "s"), ("JPEG", "JPEG", "D"),
    ):  # fmt: skip
        found = named(curves.rivals, start)
        errors = [100 * (1 - point.accuracy) for point in found]
        sizes = [point.bytes for point in found]
        axes.plot(sizes, errors, marker, ms=4, ls=":", lw=0.8, color="#cf222e", label=label)


def run(folder: Path) -> dict[str, dict[str, Points]]:
    """Measure all points."""
    found = {}
    for name, data in SUBJECTS:
        bundle = read_bundle(bundle_path(name))
        held, test = (load(data, folder, part) for part in ("validation", "test"))
        found[data] = points_of(
            level_answers(bundle, held.images, held.labels),
            level_answers(bundle, test.images, test.labels),
        )
    return found


def main() -> None:
    """Measure, keep and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot-only", action="store_true")
    parser.add_argument("--data-dir", default=os.environ.get(DATA_DIR_VARIABLE, "data"))
    given = parser.parse_args()
    if not given.plot_only:
        found: Any = run(Path(given.data_dir))
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    draw(json.loads(RESULTS.read_text()), IMAGE)


if __name__ == "__main__":
    main()
