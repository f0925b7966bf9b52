"""Flags that the commands of the paper's experiments share."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from cloud.training.paper.sweep import Evaluation, Statistics
from cloud.training.split.processor import DEVICES, processor
from shared.errors import UsageError

CHECKPOINT_DIR_VARIABLE = "TAPER_CHECKPOINTS"
LOG_WIDTH = 140


CheckpointDir = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint-dir",
        envvar=CHECKPOINT_DIR_VARIABLE,
        help="Folder of trained networks; the default is in the user's cache folder.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from an unfinished checkpoint.")]
Restart = Annotated[bool, typer.Option("--restart", help="Remove checkpoints and start again.")]
DeviceName = Annotated[
    str,
    typer.Option("--device", help=f"One of {', '.join(DEVICES)}; auto is a GPU if there is one."),
]
StatisticsFlag = Annotated[
    list[Statistics] | None,
    typer.Option(
        "--statistics",
        help="What normalises truncated networks in the tests that are shown; may be given several "
        "times. recalibrated: measured for every width on training images; batch: of the test "
        "batch, so that an answer depends on its neighbours; running: of training.",
        show_default="all",
    ),
]
Dropout = Annotated[
    bool,
    typer.Option("--dropout", help="Leave dropout on in these tests, as the paper's code does."),
]


def evaluations(statistics: list[Statistics] | None, dropout: bool) -> tuple[Evaluation, ...]:
    """Return the evaluations of ``--statistics`` and ``--dropout``; empty if neither is given."""
    if dropout and not statistics:
        statistics = [Statistics.BATCH]
    return tuple(Evaluation(kind, dropout) for kind in statistics or ())


def output() -> Console:
    """Return a console on standard output, wide enough for the tables if it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else LOG_WIDTH)


def checkpoint_folder(given: Path | None) -> Path:
    """Return ``given`` or a folder in the user's cache, creating it if it is missing."""
    if given is None:
        import pooch  # only needed for the default

        given = Path(str(pooch.os_cache("taper"))) / "checkpoints"
    return made(given, "--checkpoint-dir")


def made(folder: Path, flag: str) -> Path:
    """Create ``folder`` if it is missing; ``UsageError`` names ``flag`` if it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UsageError(f"{flag}: {folder} cannot be written to ({error.strerror})") from None


def prepare(threads: int, device: str = "auto") -> torch.device:
    """Set the number of threads (0: all cores) and return the device; call before any layer runs.

    ``UsageError``: no such device, or a GPU is asked for and there is none.
    """
    # Random fractions give layers many different shapes, and oneDNN compiles a kernel for each. Its
    # default cache of 1,024 kernels would drop them before they are used again.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32768")
    if threads:
        torch.set_num_threads(threads)
    chosen = processor(device, graphs=False).device
    torch.backends.cudnn.benchmark = False  # would benchmark the shapes of every width
    torch.backends.cudnn.allow_tf32 = False  # tests are float32, steps are bfloat16
    return chosen
