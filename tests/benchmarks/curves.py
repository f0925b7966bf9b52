"""Measures, stores and plots accuracy against bytes: ours by d and encoding, and every rival's.

``measure`` trains the classifiers that are missing, which takes minutes to hours on one thread. Its
result is stored as JSON in ``docs/results``, where the quick run reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from cloud.training.data.datasets import Dataset
from cloud.training.split.evaluate import cloud_logits, device_features
from shared.model.bundle import Bundle
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.codec import FeatureCodec
from tests.benchmarks.classifier import ClassifierSettings, accuracy_of
from tests.benchmarks.payloads import stays_on_device
from tests.benchmarks.rivals import rivals, view

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = {
    "mnist": ClassifierSettings(epochs=4, widths=(24, 48, 64), shift=1, mirror=False),
    "cifar10": ClassifierSettings(epochs=6, widths=(32, 64, 128), shift=2, mirror=True),
}
QUALITIES = {"mnist": (0, 20, 60), "cifar10": (0, 10, 40)}
BATCH = 16


@dataclass(frozen=True)
class Point:
    """A way to send: mean bytes of a test image, and the resulting share of right answers."""

    name: str
    bytes: float
    accuracy: float


@dataclass(frozen=True)
class Curves:
    """All points for one data set; the bytes of ``exits`` are averaged over all samples."""

    data: str
    bundle: str
    version: str
    images: int
    ours: tuple[Point, ...]
    sixteens: tuple[Point, ...]
    exits: tuple[Point, ...]
    rivals: tuple[Point, ...]


def results_path(data: str) -> Path:
    """Return the path of the measured curves of a data set."""
    return DOCS / "results" / f"wire-{data}.json"


def read(data: str) -> Curves | None:
    """Return the curves that were measured last, or None."""
    path = results_path(data)
    if not path.exists():
        return None
    value = json.loads(path.read_text())
    groups = ("ours", "sixteens", "exits", "rivals")
    points = {group: tuple(Point(**point) for point in value[group]) for group in groups}
    return Curves(**{**value, **points})


def write(curves: Curves) -> None:
    """Write ``curves`` as JSON and as a plot."""
    path = results_path(curves.data)
    path.write_text(json.dumps(asdict(curves), indent=1) + "\n")
    plot(curves, DOCS / "images" / f"wire-{curves.data}.svg")


def our_points(bundle: Bundle, test_set: Dataset) -> dict[str, tuple[Point, ...]]:
    """Measure ours at every d and c = 1: sent singly, sixteen together, and with the exit head."""
    device, cloud, codec = DeviceHalf(bundle), CloudHalf(bundle), FeatureCodec(bundle)
    top = len(bundle.architecture.cloud_levels) - 1
    singles, sixteens, exits = [], [], []
    for level, fraction in enumerate(bundle.architecture.device_levels):
        features = device_features(device, test_set.images, level)
        right = cloud_logits(cloud, features, level, top).argmax(axis=1) == test_set.labels
        sizes = np.array([len(codec.encode(row[None], level).payload) for row in features])
        starts = range(0, len(features), BATCH)
        together = sum(len(codec.encode(features[s : s + BATCH], level).payload) for s in starts)
        name, accuracy = f"d={fraction:g}", float(right.mean())
        singles.append(Point(name, round(float(sizes.mean()), 3), accuracy))
        sixteens.append(Point(name, round(together / len(features), 3), accuracy))
        if "exit" in bundle.metadata.extra:
            stays = stays_on_device(bundle, features, level)
            local = device.exit_logits(features, level).argmax(axis=1) == test_set.labels
            sent = float(np.where(stays, 0, sizes).mean())
            combined = float(np.where(stays, local, right).mean())
            exits.append(Point(name, round(sent, 3), combined))
    return {"ours": tuple(singles), "sixteens": tuple(sixteens), "exits": tuple(exits)}


def measure(
    bundle: Bundle,
    data: str,
    sets: tuple[Dataset, Dataset],
    cache: Path,
    say: Callable[[str], None],
) -> Curves:
    """Measure all points; classifiers are trained only if they are not in ``cache``."""
    torch.set_num_threads(1)
    train_set, test_set = sets
    accuracies: dict[str, float] = {}
    points = []
    for rival in rivals(train_set.images, QUALITIES[data]):
        if rival.view not in accuracies:
            accuracies[rival.view] = accuracy_of(
                rival.view,
                (view(rival.view, train_set.images), train_set.labels),
                (view(rival.view, test_set.images), test_set.labels),
                SETTINGS[data],
                cache / f"{data}-{rival.view}.pt",
                say,
            )
        sizes = rival.payload_bytes(test_set.images)
        points.append(Point(rival.name, round(float(np.mean(sizes)), 3), accuracies[rival.view]))
        say(f"{points[-1].name}: {points[-1].bytes:.1f} bytes, {100 * points[-1].accuracy:.2f} %")
    return Curves(
        data=data,
        bundle=bundle.metadata.name,
        version=bundle.metadata.version,
        images=len(test_set.images),
        rivals=tuple(points),
        **our_points(bundle, test_set),
    )


def with_ours(kept: Curves, bundle: Bundle, test_set: Dataset) -> Curves:
    """Return ``kept`` with the points of ``bundle`` and the same rivals."""
    return Curves(
        data=kept.data,
        bundle=bundle.metadata.name,
        version=bundle.metadata.version,
        images=len(test_set.images),
        rivals=kept.rivals,
        **our_points(bundle, test_set),
    )


def bytes_at(points: Sequence[Point], accuracy: float) -> float:
    """Return the bytes at which the line through ``points`` reaches ``accuracy``.

    The fewest bytes if all points are better; infinity if none reaches it.
    """
    ordered = sorted(points, key=lambda point: point.bytes)
    before = ordered[0]
    if before.accuracy >= accuracy:
        return before.bytes
    for point in ordered[1:]:
        if point.accuracy >= accuracy:
            share = (accuracy - before.accuracy) / (point.accuracy - before.accuracy)
            return before.bytes + share * (point.bytes - before.bytes)
        before = point
    return float("inf")


def named(points: Sequence[Point], start: str) -> list[Point]:
    """Return the points whose names begin with ``start``."""
    return [point for point in points if point.name.startswith(start)]


def plot(curves: Curves, path: Path) -> None:
    """Plot error against bytes, both logarithmic."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    lines: list[tuple[Sequence[Point], str, dict[str, Any]]] = [
        (curves.ours, "taper, every sample", {"marker": "o", "color": "#1f6feb"}),
        (curves.exits, "taper, exit head answers", {"marker": "o", "ls": "", "color": "#2da44e"}),
        (named(curves.rivals, "WEBP q"), "WebP lossy", {"marker": "s", "color": "#bf8700"}),
        (named(curves.rivals, "JPEG"), "JPEG", {"marker": "s", "color": "#cf222e"}),
    ]
    for points, label, style in lines:
        if points:
            bytes_of = [max(point.bytes, 0.1) for point in points]
            axes.plot(bytes_of, [_error(point) for point in points], label=label, **style)
    for point in curves.ours:
        axes.annotate(point.name, (point.bytes, _error(point)), fontsize=7, xytext=(3, 4),
                      textcoords="offset points")  # fmt: skip
    lossy = ("WEBP q", "JPEG")
    for point in curves.rivals:
        if not point.name.startswith(lossy):
            axes.plot([point.bytes], [_error(point)], "x", color="#57606a")
            axes.annotate(point.name, (point.bytes, _error(point)), fontsize=7, rotation=20,
                          xytext=(3, 4), textcoords="offset points")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="mean payload, bytes a test image",
             ylabel="wrong answers, percent")  # fmt: skip
    axes.set_title(f"{curves.data}: {curves.images:,} test images", loc="left", fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _error(point: Point) -> float:
    return max(100 * (1 - point.accuracy), 0.01)
