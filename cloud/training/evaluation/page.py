"""An evaluation as one HTML page without external resources."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cloud.training.data.datasets import Dataset
from cloud.training.evaluation.figures import calibration_svg, confusion_svg, png_uri
from cloud.training.evaluation.measuring import Evaluation
from cloud.training.intervals import wilson
from shared.model.bundle import Bundle
from shared.model.looks import NO_LOOK, read_plans

TEMPLATE = "page.html.j2"
SHOWN = 32  # mistakes that are shown


@dataclass(frozen=True)
class ClassRow:
    """A row of the table of classes: number of pictures, recall and precision."""

    name: str
    pictures: int
    recall: float
    precision: float


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified picture: its index in the data, and the picture as a data URI."""

    index: int
    label: str
    answer: str
    confidence: float
    uri: str


def render(bundle: Bundle, data: Dataset, split: str, found: Evaluation) -> str:
    """Return the HTML page about ``found``, the evaluation of ``bundle`` on a split of ``data``."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    names = bundle.metadata.class_names
    low, high = wilson(found.accuracy, found.images)
    return environment.get_template(TEMPLATE).render(
        name=bundle.metadata.name,
        version=bundle.metadata.version,
        command=bundle.metadata.training.get("command", "The bundle does not say."),
        data=data.name,
        split=split,
        found=found,
        names=names,
        architecture=bundle.architecture,
        pair=pair_of(bundle, found),
        interval=f"{100 * low:.2f} to {100 * high:.2f}",
        percent=percent,
        classes=class_rows(found, names),
        confusion=confusion_svg(found, names),
        calibration=calibration_svg(found),
        promises=bundle.metadata.extra.get("exit", {}).get("promise", []),
        plans=read_plans(bundle),
        one_look=NO_LOOK,
        mistakes=[
            Mistake(
                int(index),
                names[int(data.labels[index])],
                names[int(answer)],
                float(confidence),
                png_uri(data.images[index]),
            )
            for index, answer, confidence in zip(
                found.mistakes[:SHOWN], found.wrong_answers, found.confidences, strict=False
            )
        ],
    )


def class_rows(found: Evaluation, names: tuple[str, ...]) -> list[ClassRow]:
    """Return a row for each class, the lowest recall first."""
    pictures = found.confusion.sum(axis=1)
    rows = [
        ClassRow(name, int(pictures[at]), float(found.recall[at]), float(found.precision[at]))
        for at, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: (math.isnan(row.recall), row.recall))


def pair_of(bundle: Bundle, found: Evaluation) -> str:
    """Return device and cloud fraction of the pair that is described in detail."""
    made = bundle.architecture
    return f"{made.device_levels[found.level]:g}, {made.cloud_levels[found.cloud_level]:g}"


def percent(share: float | None) -> str:
    """Format a share as a percentage; empty if it is unknown."""
    return "" if share is None or math.isnan(share) else f"{100 * share:.2f} %"
