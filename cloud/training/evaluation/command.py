"""``python -m cloud.training.evaluate``: measure a bundle on a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cloud.training.data.datasets import SPLITS, Dataset, load
from cloud.training.evaluation.measuring import Evaluation, evaluate
from cloud.training.evaluation.page import class_rows, pair_of, percent, render
from cloud.training.flags import DataDir
from cloud.training.intervals import wilson
from shared.atomic_file import replacing
from shared.bundles import bundle_path
from shared.errors import UsageError
from shared.fractions import check_fraction, level_for
from shared.model.bundle import Bundle, read_bundle
from shared.typer_app import run_app

COLUMNS = 80
LEAST_RECOGNISED = 10  # classes that the terminal shows

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", no_args_is_help=True)


@app.command("evaluate")
def evaluate_command(
    bundle: Annotated[str, typer.Argument(help="Shipped bundle by name, or a bundle file.")],
    data: Annotated[
        str, typer.Option(help="A known data set, an imported one, or a folder (default: its own).")
    ] = "",
    split: Annotated[str, typer.Option(help=f"One of {', '.join(SPLITS)}.")] = "test",
    output: Annotated[Path | None, typer.Option(help="Page to write (default: NAME.html).")] = None,
    fraction: Annotated[
        float, typer.Option(help="Fraction of the device for the detailed results.")
    ] = 1.0,
    cloud_fraction: Annotated[
        float, typer.Option(help="Fraction of the cloud for the detailed results.")
    ] = 1.0,
    images: Annotated[int, typer.Option(min=0, help="Use only so many pictures; 0: all.")] = 0,
    data_dir: DataDir = Path("data"),
) -> None:
    """Measure a bundle on labelled pictures; print a summary and write one HTML page."""
    given = read_bundle(bundle_path(bundle, "BUNDLE"))
    target = output or Path(f"{given.metadata.name}.html")
    if not target.parent.is_dir():
        raise UsageError(f"--output: the folder {target.parent} is not there; make it first")
    check_fraction(fraction, "--fraction")
    check_fraction(cloud_fraction, "--cloud-fraction")
    chosen = data or str(given.metadata.training.get("data", ""))
    if not chosen:
        raise UsageError("--data: the bundle does not say what it was trained on; give a data set")
    pictures = fitting(given, evenly_spaced(load(chosen, data_dir, split), images))
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=None)

        def on_level(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        found = evaluate(
            given,
            pictures.images,
            pictures.labels,
            level_for(fraction, given.architecture.device_levels),
            level_for(cloud_fraction, given.architecture.cloud_levels),
            on_level,
        )
    show(given, pictures, split, found)
    with replacing(target, "--output") as temporary:
        temporary.write_text(render(given, pictures, split, found), encoding="utf-8")
    Console(soft_wrap=True, highlight=False).print(f"wrote {target}", markup=False)


def evenly_spaced(data: Dataset, count: int) -> Dataset:
    """Return ``count`` evenly spaced pictures of ``data``; all of them for 0."""
    if not count or count >= len(data.images):
        return data
    rows = np.linspace(0, len(data.images) - 1, count).astype(int)
    return replace(data, images=data.images[rows], labels=data.labels[rows])


def fitting(bundle: Bundle, data: Dataset) -> Dataset:
    """Return ``data`` if its shape and classes fit the bundle; else ``UsageError``."""
    shape = bundle.architecture.input_shape
    wanted = (shape.height, shape.width, shape.channels)
    if data.images.shape[1:] != wanted:
        raise UsageError(
            f"--data: {data.name} has pictures of {data.images.shape[1:]}, the bundle takes "
            f"{wanted}"
        )
    numbers = tuple(str(label) for label in range(len(data.classes)))
    names = bundle.metadata.class_names
    if data.classes not in (names, numbers) or len(data.classes) != len(names):
        raise UsageError(
            f"--data: {data.name} has the classes {', '.join(data.classes)}, the bundle "
            f"{', '.join(names)}"
        )
    if not len(data.images):
        raise UsageError(f"--data: {data.name} has no pictures in that split")
    return data


def show(bundle: Bundle, data: Dataset, split: str, found: Evaluation) -> None:
    """Print the summary, in 80 columns."""
    console = Console(width=COLUMNS, highlight=False)
    made = bundle.architecture
    low, high = wilson(found.accuracy, found.images)
    console.print(
        f"{bundle.metadata.name} on {data.name}, {split}: {found.images} pictures", markup=False
    )
    console.print(
        f"right at ({pair_of(bundle, found)}): {percent(found.accuracy)} "
        f"({100 * low:.2f} to {100 * high:.2f}), calibration error "
        f"{percent(found.calibration_error)}"
    )
    grid = Table("device \\ cloud", *(f"{c:g}" for c in made.cloud_levels))
    for fraction, row in zip(made.device_levels, found.grid, strict=True):
        grid.add_row(f"{fraction:g}", *(f"{100 * share:.2f}" for share in row))
    console.print(grid)
    exits = Table("d", "bytes", "coded", "exit at", "stay", "these right", "together")
    for entry in found.rows:
        at = "" if entry.exit_threshold is None else f"{entry.exit_threshold:.4f}"
        exits.add_row(
            *(f"{entry.fraction:g}", str(entry.raw_bytes), f"{entry.coded_bytes:.1f}", at),
            *(percent(share) for share in (entry.stay, entry.stay_accuracy, entry.combined)),
        )
    console.print(exits)
    least = Table("least recognised", "pictures", "recognised", "answers right")
    for one in class_rows(found, bundle.metadata.class_names)[:LEAST_RECOGNISED]:
        least.add_row(one.name, str(one.pictures), percent(one.recall), percent(one.precision))
    console.print(least)


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
