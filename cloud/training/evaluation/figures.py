"""The figures of an evaluation as SVG and its pictures as PNG, to be embedded in a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cloud.training.evaluation.measuring import Evaluation

MOST_NUMBERED = 20  # with more classes, counts are not written into the matrix
BLUE, GREY = "#2166ac", "#999999"


def confusion_svg(evaluation: Evaluation, names: Sequence[str]) -> str:
    """Draw the confusion matrix: share of each class (row) classified as each class (column)."""
    counts = evaluation.confusion
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.0 + 0.34 * len(names), 12.0)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        places = range(len(names))
        axes.set_xticks(places, names, rotation=90)
        axes.set_yticks(places, names)
        axes.set_xlabel("answer")
        axes.set_ylabel("class")
        if len(names) <= MOST_NUMBERED:
            for (row, column), share in np.ndenumerate(shares):
                colour = "white" if share > 50 else "#222222"
                text = f"{share:.0f}" if share >= 0.5 else ""
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)

    return _svg("confusion", (side, side), draw)


def calibration_svg(evaluation: Evaluation) -> str:
    """Draw accuracy over confidence, and the distribution of the answers' confidence."""
    bins = evaluation.bins

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], "--", color=GREY, label="perfect calibration")
        x = [100 * one.confidence for one in bins]
        axes.plot(x, [100 * one.accuracy for one in bins], "o-", color=BLUE, label="right answers")
        shares = [100 * one.count / evaluation.images for one in bins]
        axes.bar(x, shares, width=4, color=BLUE, alpha=0.25, label="share of the pictures")
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("%")
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)

    return _svg("calibration", (5.0, 4.0), draw)


def png_uri(image: npt.NDArray[np.uint8]) -> str:
    """Encode a picture (H, W, C) as the data URI of a PNG."""
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image[:, :, :3]).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _svg(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    # Text stays text instead of paths; the hash salt makes ids unique among a page's figures.
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10}
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
