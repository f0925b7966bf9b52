"""Flags that the commands of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloud.training.data.datasets import DATA_DIR_VARIABLE

DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar=DATA_DIR_VARIABLE, help="Folder of fetched data sets.")
]
Threads = Annotated[int, typer.Option("--threads", min=0, help="0 means all cores.")]
