"""``python -m cloud.training.study``: measure where to cut a network.

Trains a small network for each of ``DESIGNS`` for a few epochs with equal settings. Writes bytes
sent, operations of the device and accuracy at every device level; docs/models.md shows the figure.
Short trainings rank designs, but do not show the accuracy that a design can reach.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from cloud.training.data.datasets import SPLITS, Dataset, load
from cloud.training.flags import DataDir, Threads
from cloud.training.split.architectures import CLOUD_LEVELS, DEVICE_LEVELS
from cloud.training.split.calibration import calibrate
from cloud.training.split.export import export
from cloud.training.split.job import Job
from cloud.training.split.processor import CPU
from cloud.training.split.settings import Settings
from shared.model.architecture import Architecture, Kind, Shape, Stage
from shared.model.bundle import Bundle
from shared.typer_app import run_app

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
console = Console(stderr=True)


@dataclass(frozen=True)
class Design:
    """A device half: channels and pooling of each layer; the last layer's bits are sent."""

    channels: tuple[int, ...]
    pools: tuple[int, ...]
    step: int = 16  # step of channels in the layers before the last

    def label(self, shape: Shape) -> str:
        """Return a name such as ``7x7x24 from 32-64-64``."""
        side = shape.height
        for pool in self.pools:
            side //= pool
        inner = "-".join(str(n) for n in self.channels[:-1])
        return f"{side}x{side}x{self.channels[-1]} from {inner}"


DESIGNS = (
    Design((32, 8), (2, 1)),
    Design((32, 16), (2, 1)),
    Design((32, 64, 24), (2, 2, 1)),
    Design((32, 64, 64, 16), (2, 2, 1, 1)),
    Design((32, 64, 64, 24), (2, 2, 1, 1)),
    Design((32, 64, 64, 24), (2, 2, 1, 1), step=8),
    Design((32, 64, 64, 32), (2, 2, 1, 1)),
    Design((32, 64, 64, 64), (2, 2, 2, 1)),
)


@dataclass(frozen=True)
class Measured:
    """The results of a design at one device level, with the cloud at full width."""

    fraction: float
    raw_bytes: int
    device_macs: int
    accuracy: float


def network(design: Design, shape: Shape, classes: int) -> Architecture:
    """Return a network of ``design`` and the flagship's cloud half for small grey images."""
    stages = []
    before, side = shape.channels, shape.height
    last = len(design.channels) - 1
    for place, (channels, pool) in enumerate(zip(design.channels, design.pools, strict=True)):
        kind = Kind.BINARY_CONV if place else Kind.IMAGE_CONV
        step = 1 if place == last else design.step
        stages.append(Stage(f"conv{place + 1}", kind, before, channels, pool, step))
        before, side = channels, side // pool
    pools = (2, 2) if side > 7 else (1, 2)
    cloud = (
        Stage("cloud1", Kind.BINARY_CONV, before, 128, pools[0], profile="linear"),
        Stage("cloud2", Kind.BINARY_CONV, 128, 128, pools[1]),
        Stage("classify", Kind.BINARY_LINEAR, 128, classes),
    )
    return Architecture(
        "study", shape, classes, tuple(stages), cloud, DEVICE_LEVELS, CLOUD_LEVELS, exit_head=True
    )


def measure(bundle: Bundle) -> list[Measured]:
    """Measure every device level of a trained design."""
    architecture = bundle.architecture
    return [
        Measured(
            fraction,
            architecture.sent_shape(level).packed_bytes,
            architecture.device_macs(level),
            bundle.metadata.accuracy[level][-1],
        )
        for level, fraction in enumerate(architecture.device_levels)
    ]


def train_design(
    design: Design,
    train_set: Dataset,
    validation_set: Dataset,
    test_set: Dataset,
    settings: Settings,
) -> list[Measured]:
    """Train ``design`` and measure it with the packed runtime."""
    _, height, width, colours = train_set.images.shape
    made = network(design, Shape(height, width, colours), len(train_set.classes))
    job = Job(made, settings, train_set, validation_set, CPU)

    def say(line: str) -> None:
        console.print(f"  {line}", highlight=False)

    fit, _ = job.prepare(say)
    job.run(fit, say)
    calibrate(fit.net, train_set, settings)
    return measure(export(fit.net, "study", train_set, validation_set, test_set, {}))


def draw(results: dict[str, Any], folder: Path) -> None:
    """Draw accuracy over bytes sent and over the device's operations, one line for each design."""
    style: Any = {"svg.hashsalt": "taper", "font.size": 10, "svg.fonttype": "none"}
    with rc_context(style):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for label, levels in results["designs"].items():
            accuracy = [100 * level["accuracy"] for level in levels]
            left.plot([level["raw_bytes"] for level in levels], accuracy, "o-", ms=3, label=label)
            right.plot([level["device_macs"] / 1e6 for level in levels], accuracy, "o-", ms=3)
        left.set_xlabel("bytes a sample, uncompressed")
        right.set_xlabel("device multiply-accumulates, millions")
        left.set_ylabel("accuracy with the whole cloud half, %")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.grid(alpha=0.3)
        left.legend(fontsize=8)
        figure.savefig(folder / "study.svg", metadata={"Date": None})
        figure.savefig(folder / "study.png", dpi=144, metadata={"Software": None})


def show(results: dict[str, Any]) -> None:
    """Print a row for each design and level."""
    table = Table(title="accuracy with the whole cloud half, percent")
    for name in ("design", "d", "bytes", "device MMAC", "accuracy"):
        table.add_column(name, justify="right")
    for label, levels in results["designs"].items():
        for level in levels:
            table.add_row(
                label,
                f"{level['fraction']:g}",
                str(level["raw_bytes"]),
                f"{level['device_macs'] / 1e6:.2f}",
                f"{100 * level['accuracy']:.2f}",
            )
    Console().print(table)


@app.command()
def study(
    data: Annotated[str, typer.Option(help="A known data set, an imported one, or a folder.")],
    images: Annotated[int, typer.Option(min=256, help="Number of training images.")] = 20_000,
    epochs: Annotated[int, typer.Option(min=1)] = 6,
    seed: Annotated[int, typer.Option()] = 1,
    data_dir: DataDir = Path("data"),
    output_dir: Annotated[Path, typer.Option(help="Folder of results.")] = Path("docs/results"),
    threads: Threads = 0,
) -> None:
    """Train the designs that are missing, briefly, and write study.json and figures."""
    if threads:
        torch.set_num_threads(threads)
    settings = Settings(epochs=epochs, seed=seed, augment="affine", pairs="sandwich")
    train_set, validation_set, test_set = (load(data, data_dir, part) for part in SPLITS)
    train_set = replace(
        train_set, images=train_set.images[:images], labels=train_set.labels[:images]
    )
    path = output_dir / "study.json"
    identity = {"data": data, "images": len(train_set.images), "settings": asdict(settings)}
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if {key: results.get(key) for key in identity} != identity:
        results = {**identity, "test_images": len(test_set.images), "designs": {}}
    _, height, width, colours = train_set.images.shape
    shape = Shape(height, width, colours)
    for number, design in enumerate(DESIGNS, 1):
        label = design.label(shape) + ("" if design.step == 16 else f", step {design.step}")
        if label in results["designs"]:
            continue
        console.print(f"design {number} of {len(DESIGNS)}: {label}")
        levels = train_design(design, train_set, validation_set, test_set, settings)
        results["designs"][label] = [asdict(level) for level in levels]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    show(results)
    draw(results, output_dir)


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
