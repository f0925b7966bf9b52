"""Draw a figure: one panel for each kind of batch-norm statistics, with the same lines in each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cloud.training.paper.curve import Curve, Runs
from cloud.training.paper.figures import PLANS
from cloud.training.paper.summary import seeds_note, share
from cloud.training.paper.sweep import PAPER_PROTOCOL, Statistics

PANELS = {
    Statistics.RECALIBRATED: "recalibrated for each width",
    Statistics.BATCH: "of the test batch (transductive)",
    Statistics.RUNNING: "running, of training",
}


def draw(name: str, results: Mapping[str, Runs], folder: Path) -> list[Path]:
    """Draw a figure as SVG and PNG; return the paths.

    It shows accuracy over the percentage of channels, with the percentage of operations on a second
    axis above. A solid line is the mean over seeds; its band is the 95% interval, or
    the standard deviation over seeds where that is wider. A dashed line is measured with active
    dropout, as in the paper's research code.
    """
    entry = PLANS[name]
    panels = {
        statistics: title
        for statistics, title in PANELS.items()
        if any(statistics.value in run.evaluations for runs in results.values() for run in runs)
    }
    style: Any = {"svg.hashsalt": "taper", "font.size": 9, "svg.fonttype": "none"}
    written = []
    with rc_context(style):
        figure = Figure(figsize=(1.2 + 3.3 * len(panels), 4.4), layout="constrained")
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        handles: dict[str, Any] = {}
        for axes, (statistics, title) in zip(row, panels.items(), strict=True):
            for line, runs in results.items():
                colour = entry.lines[line].colour
                _draw_line(axes, line, colour, runs, statistics.value)
                if statistics is PAPER_PROTOCOL.statistics:
                    _draw_line(axes, f"{line}, dropout on", colour, runs, PAPER_PROTOCOL.name)
            _label(axes, title, next(iter(results.values()))[0])
            lines, labels = axes.get_legend_handles_labels()
            handles = {**dict(zip(labels, lines, strict=True)), **handles}
        row[0].set_ylabel("accuracy, %")
        first = next(iter(results.values()))[0]
        figure.suptitle(
            f"{entry.title}, {first.test_images:,} test images ({seeds_note(results)})\n"
            "batch-norm statistics:",
            fontsize=9,
        )
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=4)
        for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            path = folder / f"{name}.{suffix}"
            figure.savefig(path, dpi=144, metadata=metadata)
            written.append(path)
    return written


def _label(axes: Axes, title: str, curve: Curve) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("channels, %")
    axes.set_xlim(8, 102)
    axes.set_ylim(0, 100)
    axes.set_xticks([100 * point.fraction for point in curve.points])
    axes.grid(alpha=0.3)
    above = axes.secondary_xaxis("top")
    above.set_xticks(
        [100 * point.fraction for point in curve.points],
        [f"{100 * point.macs / curve.points[-1].macs:.3g}" for point in curve.points],
        fontsize=7,
    )
    above.set_xlabel("multiply-accumulates, %", fontsize=8)


def _draw_line(axes: Axes, label: str, colour: str, runs: Runs, evaluation: str) -> None:
    dashed = evaluation == PAPER_PROTOCOL.name
    named: str | None = label
    # Each range has its own profile, so the line is interrupted between ranges.
    for above, upto, _ in runs[0].settings["ranges"]:
        shares = {
            100 * point.fraction: share(runs, evaluation, index)
            for index, point in enumerate(runs[0].points)
            if above < point.fraction <= upto
        }
        known = {x: y for x, y in shares.items() if y is not None}
        if not known:
            continue
        means = [100 * y.mean for y in known.values()]
        axes.plot(list(known), means, "--" if dashed else "o-", c=colour, ms=3, label=named)
        if not dashed:
            bands = [y.band for y in known.values()]
            low, high = ([100 * band[edge] for band in bands] for edge in (0, 1))
            axes.fill_between(list(known), low, high, color=colour, alpha=0.2, lw=0)
        named = None
