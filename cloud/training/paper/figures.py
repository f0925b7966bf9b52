"""The paper's figures: which curves they have, their results as JSON, and their drawing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cloud.training.paper.curve import Curve, to_curve, write_json
from cloud.training.paper.experiment import Experiment
from cloud.training.paper.recipes import recipe
from shared.errors import UsageError

FORMAT = 1
MLP_RANGES = "0-0.2:linear,0.2-0.5:linear,0.5-1:linear"
VGG_RANGES = "0-0.2:linear,0.2-1:linear"


@dataclass(frozen=True)
class Line:
    """One curve of a figure: what is trained for it, and how it looks."""

    regime: str
    profile: str | None = None
    ranges: str | None = None
    colour: str = "C0"
    start: str | None = None  # regime whose finished network this line's training begins with
    recipe: Mapping[str, Any] = field(default_factory=dict)  # in place of the network's


@dataclass(frozen=True)
class Plan:
    """A figure of the paper."""

    title: str
    network: str
    lines: Mapping[str, Line]

    def experiment(self, line: str, changes: Mapping[str, Any]) -> Experiment:
        """What ``line`` trains, with ``changes`` to the network's recipe."""
        entry = self.lines[line]
        usual = replace(recipe(self.network), **changes)
        start = None if entry.start is None else Experiment(self.network, entry.start, usual)
        chosen = replace(usual, **{**entry.recipe, **changes})
        return Experiment(self.network, entry.regime, chosen, entry.profile, entry.ranges, start)


STANDARD = {"standard": Line("standard", colour="#777777")}
LINEAR = {"linear": Line("idp", "linear", colour="#1f6fb4")}
SANDWICH = {"sandwich": Line("sandwich", colour="#c8432b")}


def _multi(ranges: str, **recipe: Any) -> dict[str, Line]:
    line = Line("multi-profile", ranges=ranges, colour="#2b8a57", recipe=recipe)
    return {"multi-profile": line}


VGG_MULTI = _multi(VGG_RANGES, epochs=6)
# Large networks: the complete one is trained already, and goes on as the widest of the sandwich
# (as in "Once-for-All", arXiv 1908.09791).
LARGE_SANDWICH = {
    "sandwich": replace(
        SANDWICH["sandwich"],
        start="standard",
        recipe={"epochs": 6, "learning_rate": 0.05, "resolution": "full"},
    )
}


PLANS: dict[str, Plan] = {
    "profiles": Plan(
        "Profiles compared, MLP on MNIST",
        "mlp",
        {
            "all-one (standard)": Line("standard", colour="#777777"),
            "all-one, truncated in training": Line("idp", "all-one", colour="#b0a040"),
            "harmonic": Line("idp", "harmonic", colour="#2b8a57"),
            "linear": Line("idp", "linear", colour="#1f6fb4"),
            "half-exp": Line("idp", "half-exp", colour="#8a4fb0"),
        },
    ),
    "mlp": Plan("MLP on MNIST", "mlp", {**STANDARD, **LINEAR, **_multi(MLP_RANGES), **SANDWICH}),
    "vgg16": Plan(
        "VGG-16 on CIFAR-10", "vgg16", {**STANDARD, **LINEAR, **VGG_MULTI, **LARGE_SANDWICH}
    ),
    "mobilenet": Plan(
        "MobileNet on CIFAR-10", "mobilenet", {**STANDARD, **LINEAR, **LARGE_SANDWICH}
    ),
    "binarynet": Plan(
        "Binarized network on MNIST", "binarynet", {**STANDARD, **LINEAR, **SANDWICH}
    ),
    "mlp-multi": Plan("Three profiles, MLP on MNIST", "mlp", {**LINEAR, **_multi(MLP_RANGES)}),
    "vgg16-multi": Plan("Two profiles, VGG-16 on CIFAR-10", "vgg16", {**LINEAR, **VGG_MULTI}),
}


def plan(name: str) -> Plan:
    """The figure of that name; ``UsageError`` lists the known ones."""
    if name not in PLANS:
        raise UsageError(f"FIGURE: {name!r} is unknown; known: {', '.join(PLANS)}, all")
    return PLANS[name]


def write_curves(path: Path, name: str, curves: Mapping[str, Curve]) -> None:
    """Write the results of a figure as JSON."""
    document = {
        "format": FORMAT,
        "figure": name,
        "title": PLANS[name].title,
        "command": f"python -m cloud.training.reproduce {name}",
        "curves": {line: asdict(curve) for line, curve in curves.items()},
    }
    write_json(path, document)


def read_curves(path: Path) -> dict[str, Curve]:
    """Read what ``write_curves`` wrote; no file, no curves. ``UsageError`` for anything else."""
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise UsageError(f"{path}: has format {document['format']}, not {FORMAT}")
        return {line: to_curve(value) for line, value in document["curves"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: holds no results of a figure ({error!r:.200})") from None


def draw(name: str, curves: Mapping[str, Curve], folder: Path) -> list[Path]:
    """Draw a figure as SVG and PNG; accuracy over percent of channels, and of operations above."""
    entry = PLANS[name]
    style: Any = {"svg.hashsalt": "taper", "font.size": 10, "svg.fonttype": "none"}
    written = []
    with rc_context(style):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for line, curve in curves.items():
            _draw_curve(axes, line, entry.lines[line].colour, curve)
        axes.plot([], [], ":", c="black", lw=1, label="norms recalibrated")
        first = next(iter(curves.values()))
        axes.set_title(f"{entry.title}, {first.test_images:,} test images")
        axes.set_xlabel("channels, %")
        axes.set_ylabel("accuracy, %")
        axes.set_xlim(8, 102)
        axes.set_xticks([100 * point.fraction for point in first.points])
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
        above = axes.secondary_xaxis("top")
        above.set_xticks(
            [100 * point.fraction for point in first.points],
            [f"{100 * point.macs / first.points[-1].macs:.3g}" for point in first.points],
        )
        above.set_xlabel("multiply-accumulates, %")
        for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            path = folder / f"{name}.{suffix}"
            figure.savefig(path, dpi=144, metadata=metadata)
            written.append(path)
    return written


def _draw_curve(axes: Axes, line: str, colour: str, curve: Curve) -> None:
    label: str | None = line
    # A profile ends where its range does: the line breaks there.
    for above, upto, _ in curve.settings["ranges"]:
        inside = [point for point in curve.points if above < point.fraction <= upto]
        x = [100 * point.fraction for point in inside]
        axes.plot(x, [100 * point.accuracy for point in inside], "o-", c=colour, label=label)
        if len(curve.settings["levels"]) == len(curve.settings["ranges"]):
            measured = [100 * point.recalibrated for point in inside]
            axes.plot(x, measured, ":", c=colour, lw=1)
        label = None
