"""``python -m cloud.training.train``: train a split binary network and write its bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from cloud.training.data.augment import AUGMENTATIONS
from cloud.training.data.batches import PAIR_RULES, Settings
from cloud.training.data.datasets import DATA_DIR_VARIABLE, Dataset, load
from cloud.training.split.architectures import ARCHITECTURES, architecture
from cloud.training.split.export import export
from cloud.training.split.fit import EpochReport, fit
from cloud.training.split.teacher import train_teacher
from shared.errors import UsageError
from shared.model.architecture import Shape
from shared.model.bundle import Bundle, write_bundle
from shared.networks.binarynet import BinaryNet
from shared.typer_app import run_app

DEFAULTS = Settings()
RECORDED = (
    *("epochs", "batch", "learning_rate", "warm_up", "seed", "augment", "pairs"),
    *("widest_weight", "teacher_epochs"),
)
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
console = Console(stderr=True)


@app.command()
def train(
    network: Annotated[str, typer.Option(help=f"One of {', '.join(sorted(ARCHITECTURES))}.")],
    data: Annotated[
        str, typer.Option(help="mnist, fashion-mnist, cifar10 or a folder of IDX files.")
    ],
    output: Annotated[Path, typer.Option(help="Bundle file to write (*.safetensors).")],
    epochs: Annotated[int, typer.Option(min=0)] = DEFAULTS.epochs,
    batch: Annotated[int, typer.Option(min=2)] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = DEFAULTS.learning_rate,
    warm_up: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the steps until that rate.")
    ] = DEFAULTS.warm_up,
    seed: Annotated[int, typer.Option()] = DEFAULTS.seed,
    augment: Annotated[
        str, typer.Option(help=f"One of {', '.join(AUGMENTATIONS)}.")
    ] = DEFAULTS.augment,
    pairs: Annotated[
        str, typer.Option(help=f"Level pairs that a step trains: {' or '.join(PAIR_RULES)}.")
    ] = DEFAULTS.pairs,
    widest_weight: Annotated[
        float, typer.Option(min=0.0, help="Of the widest pair's loss; the others' is 1 each.")
    ] = DEFAULTS.widest_weight,
    teacher_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs of the float network to learn from; 0: none.")
    ] = DEFAULTS.teacher_epochs,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Where to keep the state after every epoch.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint if there is one.")
    ] = False,
    data_dir: Annotated[
        Path, typer.Option(envvar=DATA_DIR_VARIABLE, help="Folder of fetched data sets.")
    ] = Path("data"),
    threads: Annotated[int, typer.Option(min=0, help="0 means all cores.")] = 0,
) -> None:
    """Train a split binary network over the grid of device and cloud fractions.

    The bundle holds the packed network and its accuracy on the test set at every pair of levels.
    """
    if augment not in AUGMENTATIONS:
        raise UsageError(f"--augment: {augment!r} is unknown; known: {', '.join(AUGMENTATIONS)}")
    if pairs not in PAIR_RULES:
        raise UsageError(f"--pairs: {pairs!r} is unknown; known: {', '.join(PAIR_RULES)}")
    if threads:
        torch.set_num_threads(threads)
    settings = replace(
        DEFAULTS,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        warm_up=warm_up,
        seed=seed,
        augment=augment,
        pairs=pairs,
        widest_weight=widest_weight,
        teacher_epochs=teacher_epochs,
    )
    if checkpoint and not resume:
        checkpoint.unlink(missing_ok=True)
    train_set, test_set = (load(data, data_dir, split) for split in ("train", "test"))
    bundle = train_bundle(network, output.stem, train_set, test_set, settings, checkpoint)
    write_bundle(bundle, output)
    console.print(accuracy_table(bundle))
    console.print(f"wrote {output}, {output.stat().st_size} bytes")


def train_bundle(
    network: str,
    name: str,
    train_set: Dataset,
    test_set: Dataset,
    settings: Settings,
    checkpoint: Path | None = None,
) -> Bundle:
    """Train ``network`` on ``train_set`` and measure it on ``test_set``."""
    _, height, width, colours = train_set.images.shape
    torch.manual_seed(settings.seed)
    net = BinaryNet(architecture(network, Shape(height, width, colours), len(train_set.classes)))
    # channels_last halves the time of these narrow convolutions
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # (N, H, W, C) -> (N, C, H, W)
    images = torch.from_numpy(train_set.images).permute(0, 3, 1, 2)
    labels = torch.from_numpy(train_set.labels)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        teacher = None
        if settings.teacher_epochs:
            task = progress.add_task("training the teacher", total=None)
            place = checkpoint.with_suffix(".teacher") if checkpoint else None
            teacher = train_teacher(
                images, labels, len(train_set.classes), settings, place, meter(progress, task)
            )
        task = progress.add_task(f"training {network}", total=None)

        def on_epoch(report: EpochReport) -> None:
            progress.console.print(
                f"epoch {report.epoch}/{settings.epochs}: loss {report.loss:.4f}, "
                f"accuracy {report.accuracy:.2%}, {report.seconds:.0f} s"
            )

        fit(net, images, labels, settings, checkpoint, teacher, meter(progress, task), on_epoch)
    training = {
        "command": command_line(network, name, train_set.name, settings),
        "settings": asdict(settings),
        "data": train_set.name,
        "train_images": len(train_set.images),
        "train_digest": train_set.digest,
        "test_images": len(test_set.images),
        "test_digest": test_set.digest,
    }
    console.print("exporting and measuring on the test set ...")
    return export(net, name, train_set, test_set, training)


def command_line(network: str, name: str, data: str, settings: Settings) -> str:
    """The command that trains this bundle again; paths of this machine stay out of it."""
    flags = [("network", network), ("data", data), ("output", f"{name}.safetensors")]
    flags += [
        (flag, str(getattr(settings, flag)))
        for flag in (
            "epochs",
            "batch",
            "learning_rate",
            "seed",
            "augment",
            "pairs",
            "teacher_epochs",
        )
    ]
    words = (f"--{flag.replace('_', '-')} {value}" for flag, value in flags)
    return f"python -m cloud.training.train {' '.join(words)}"


def meter(progress: Progress, task: TaskID) -> Callable[[int, int], None]:
    """A function of (done, total) that moves the bar of ``task``."""

    def move(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return move


def accuracy_table(bundle: Bundle) -> Table:
    """Accuracy over device levels (rows) and cloud levels (columns), in percent."""
    table = Table(title=f"{bundle.metadata.name}: accuracy on the test set, percent")
    table.add_column("device \\ cloud", justify="right")
    for fraction in bundle.architecture.cloud_levels:
        table.add_column(f"{fraction:g}", justify="right")
    for fraction, row in zip(
        bundle.architecture.device_levels, bundle.metadata.accuracy, strict=True
    ):
        table.add_row(f"{fraction:g}", *(f"{100 * value:.2f}" for value in row))
    return table


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
