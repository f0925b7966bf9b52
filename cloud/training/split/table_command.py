"""Flags and output shared by the commands that replace a table of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cloud.training.data.datasets import DATA_DIR_VARIABLE
from shared.model.bundle import Bundle, write_bundle

BundleWord = Annotated[str, typer.Argument(help="Shipped bundle by name, or a bundle file.")]
OutputFile = Annotated[
    Path | None, typer.Option(help="File to write (default: the bundle itself).")
]
DataName = Annotated[
    str | None, typer.Option(help="Data set (default: the one that the bundle was trained on).")
]
DataFolder = Annotated[
    Path, typer.Option(envvar=DATA_DIR_VARIABLE, help="Folder of fetched data sets.")
]


def data_of(bundle: Bundle, data: str | None) -> str:
    """Return the named data set, by default the one that ``bundle`` was trained on."""
    return data or str(bundle.metadata.training["data"])


def write_to(target: Path, bundle: Bundle, console: Console) -> None:
    """Write ``bundle`` to ``target`` and print that."""
    write_bundle(bundle, target)
    console.print(f"wrote {target}, {target.stat().st_size} bytes", markup=False)
