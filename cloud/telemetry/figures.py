"""The figures of a report, as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloud.telemetry.estimates import exit_accuracy
from cloud.telemetry.marks import Mark
from cloud.telemetry.queries import Slice
from shared.fleet.messages import LATEST_UNIX_S

DEVICE, CLOUD, FAILED, PALE = "#1b7837", "#2166ac", "#b2182b", "#999999"
LATEST_DRAWN_S = LATEST_UNIX_S - 10 * 365 * 86_400  # leaves room for axes that end later
INK = "#010203"  # placeholder that is replaced by the colour of the page's text
Slices = Sequence[Slice]
Draw = Callable[[Axes, Slices], None]


@dataclass(frozen=True)
class Drawing:
    """A figure with its title and a line of explanation."""

    title: str
    note: str
    svg: str


def drawings(slices: Slices, marks: Sequence[Mark] = ()) -> list[Drawing]:
    """Return all figures over ``slices`` (at least one), with ``marks`` as vertical lines."""
    chosen = [*FIGURES, *([AUDITS] if any(one.audited for one in slices) else [])]
    return [_drawing(title, note, draw, slices, marks) for title, note, draw in chosen]


def _drawing(title: str, note: str, draw: Draw, slices: Slices, marks: Sequence[Mark]) -> Drawing:
    # Text stays text instead of paths; the hash salt makes ids unique among the figures of a page.
    # ``ink`` replaces black, so that lines and text take the colour of the page's text.
    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    )
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 11,
                  "legend.facecolor": "none", "legend.edgecolor": "none", **ink}  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(6.4, 3.4))
        axes = figure.add_axes((0.12, 0.12, 0.86, 0.78))
        draw(axes, slices)
        axes.set_title(title, y=1.02)  # without y, matplotlib measures all texts to place it
        for number, one in enumerate(marks, 1):
            place: Any = np.datetime64(int(1000 * one.unix_s), "ms")
            axes.axvline(place, color=PALE, ls=":", lw=1)
            where = axes.get_xaxis_transform()
            axes.text(place, 1.0, str(number), fontsize=8, ha="center", va="bottom",
                      transform=where)  # fmt: skip
        axes.grid(alpha=0.3)
        # Few ticks, since most of the drawing time is spent on them.
        locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
        if axes.get_yscale() == "linear":
            axes.locator_params(axis="y", nbins=5)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(loc="best", fontsize=9)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    text = file.getvalue().replace(INK, "currentColor")
    return Drawing(title, note, text[text.index("<svg") :])


def _times(slices: Slices) -> NDArray[np.datetime64]:
    middle_s = np.array([one.start_s + one.width_s / 2 for one in slices])
    middle_s = np.minimum(middle_s, LATEST_DRAWN_S)  # a device's clock may be far ahead
    times: NDArray[np.datetime64] = (1000 * middle_s).astype("datetime64[ms]")
    return times


def _line(
    axes: Axes, slices: Slices, value: Callable[[Slice], float | None], colour: str, label: str
) -> None:
    """Draw a line, with gaps where the value is None."""
    values = [value(one) for one in slices]
    heights = [float("nan") if one is None else one for one in values]
    axes.plot(_times(slices), heights, "-", marker=".", ms=3, c=colour, label=label)


def _accuracy(axes: Axes, slices: Slices) -> None:
    def percent(one: Slice) -> float | None:
        return None if one.accuracy is None else 100 * one.accuracy

    _line(axes, slices, percent, CLOUD, "right answers")
    axes.set_ylabel("right, % of labelled")


def _fraction(axes: Axes, slices: Slices) -> None:
    _line(axes, slices, lambda one: one.fraction, DEVICE, "device, d")
    _line(axes, slices, lambda one: one.cloud_fraction, CLOUD, "cloud, c")
    axes.set_ylabel("fraction of the channels")
    axes.set_ylim(0, 1.05)


def _battery(axes: Axes, slices: Slices) -> None:
    _line(axes, slices, lambda one: 100 * one.battery, DEVICE, "mean")
    _line(axes, slices, lambda one: 100 * one.battery_low, PALE, "emptiest device")
    axes.set_ylabel("charge, %")
    axes.set_ylim(0, 105)


def _a_second(one: Slice, amount: float) -> float:
    """Return ``amount`` per second of all devices, by the duration that messages cover.

    Slices may cut telemetry periods anywhere, so their own width would not be exact.
    """
    return amount / one.period_s * one.devices if one.period_s else 0.0


def _answers(axes: Axes, slices: Slices) -> None:
    heights = [
        [_a_second(one, one.answered_cloud) for one in slices],
        [_a_second(one, one.answered_device) for one in slices],
        [_a_second(one, one.failed) for one in slices],
    ]
    labels = ("cloud", "device alone", "failed")
    axes.stackplot(_times(slices), heights, labels=labels, colors=(CLOUD, DEVICE, FAILED))
    axes.set_ylabel("samples / s")
    axes.set_ylim(bottom=0)


def _bytes(axes: Axes, slices: Slices) -> None:
    _line(axes, slices, lambda one: _a_second(one, one.payload_bytes), CLOUD, "payload")
    axes.set_ylabel("payload, bytes / s")
    axes.set_ylim(bottom=0)


def _energy(axes: Axes, slices: Slices) -> None:
    def power_mw(one: Slice) -> float | None:
        return 1000 * one.energy_j / one.period_s if one.period_s else None

    def idle_mw(one: Slice) -> float | None:
        return 1000 * one.idle_j / one.period_s if one.period_s else None

    _line(axes, slices, power_mw, DEVICE, "all")
    if any(one.idle_j for one in slices):
        _line(axes, slices, idle_mw, PALE, "of it idling")
    axes.set_ylabel("mW a device")
    axes.set_ylim(bottom=0)


def _latency(axes: Axes, slices: Slices) -> None:
    _line(axes, slices, lambda one: one.latency_ms, CLOUD, "mean")
    _line(axes, slices, lambda one: one.latency_max_ms or None, PALE, "longest")
    axes.set_ylabel("time to an answer, ms")
    if any(one.latency_max_ms for one in slices):
        axes.set_yscale("log")


def _audits(axes: Axes, slices: Slices) -> None:
    found = [exit_accuracy(one) for one in slices]
    low = [float("nan") if one is None else 100 * one.low for one in found]
    high = [float("nan") if one is None else 100 * one.high for one in found]
    axes.fill_between(_times(slices), low, high, color=DEVICE, alpha=0.2, lw=0)

    def agreement(one: Slice) -> float | None:
        return None if one.agreement is None else 100 * one.agreement

    def confidence(one: Slice) -> float | None:
        return None if one.exit_confidence is None else 100 * one.exit_confidence

    _line(axes, slices, agreement, DEVICE, "local answers that the cloud gave too")
    _line(axes, slices, confidence, PALE, "mean confidence of the exit head")
    axes.set_ylabel("%")
    axes.set_ylim(top=100)


AUDITS: tuple[str, str, Draw] = (
    "Local answers, checked",
    "Audited answers of the exit head that the cloud gave too, with their 95 % interval.",
    _audits,
)
FIGURES: tuple[tuple[str, str, Draw], ...] = (
    ("Accuracy", "Share of right answers among those with a known label.", _accuracy),
    ("Fraction", "Channels that the devices compute, and the cloud. Means.", _fraction),
    ("Battery", "Charge over all devices, and of the one that is lowest.", _battery),
    ("Where answers came from", "Confident results are answered on the device.", _answers),
    ("Bytes", "Payload that all devices sent, without the headers of gRPC.", _bytes),
    ("Energy", "Sensing, computing, radio and idling, a device.", _energy),
    ("Latency", "From the picture to its answer, wherever it came from.", _latency),
)
