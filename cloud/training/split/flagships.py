"""``python -m cloud.training.flagships``: train the shipped networks, each within a given time.

Trains on a GPU or the CPU and writes small files of weights, from which
``python -m cloud.training.train --from`` makes bundles on any machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from cloud.training.data.datasets import DATA_DIR_VARIABLE, Dataset, load
from cloud.training.split.architectures import architecture
from cloud.training.split.fit import Fit
from cloud.training.split.job import Job, Say
from cloud.training.split.network_file import Trained, write_network, write_teacher
from cloud.training.split.processor import Processor, processor
from cloud.training.split.settings import Settings
from shared.errors import UsageError
from shared.model.architecture import Shape
from shared.typer_app import run_app

CLOSING_SECONDS = 5.0  # time reserved for choosing and writing the weights
WRITE_SECONDS = 20.0  # seconds between writing weights, as a rented machine may vanish any time

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@dataclass(frozen=True)
class Flagship:
    """A shipped bundle: its network, data and training settings."""

    network: str
    data: str
    settings: Settings


GREY = Settings(
    batch=256, augment="affine", teacher_epochs=12, teacher_width=32, teacher_augment="affine"
)
FLAGSHIPS = {
    "cifar10-binary": Flagship(
        "wide-colour",
        "cifar10",
        Settings(batch=256, augment="flip-and-shift", teacher_epochs=40),
    ),
    "mnist-binary": Flagship("compact", "mnist", GREY),
    "fashion-binary": Flagship(
        "wide-compact",
        "fashion-mnist",
        replace(
            GREY, augment="flip-and-nudge", teacher_augment="flip-and-nudge", teacher_epochs=20
        ),
    ),
}


@app.command()
def flagships(
    output: Annotated[Path, typer.Option(help="Folder for the files of weights and logs.")],
    checkpoints: Annotated[Path, typer.Option(help="Folder for the states of trainings.")] = Path(
        "checkpoints"
    ),
    names: Annotated[
        list[str] | None,
        typer.Option("--only", help=f"Some of {', '.join(FLAGSHIPS)}; default: all."),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Minutes for each training, with its teacher.")
    ] = 9.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    graphs: Annotated[bool, typer.Option(help="Replay steps as CUDA graphs.")] = True,
    batch: Annotated[int, typer.Option(min=0, help="0: the recipe's.")] = 0,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="0: the recipe's.")] = 0.0,
    teacher_epochs: Annotated[int, typer.Option(min=-1, help="-1: the recipe's.")] = -1,
    images: Annotated[int, typer.Option(min=0, help="Use so many only; 0: all.")] = 0,
    data_dir: Annotated[
        Path, typer.Option(envvar=DATA_DIR_VARIABLE, help="Folder of fetched data sets.")
    ] = Path("data"),
    threads: Annotated[int, typer.Option(min=0, help="0 means all cores.")] = 0,
) -> None:
    """Train each flagship for the given minutes; a killed training is resumed."""
    for name in names or ():
        if name not in FLAGSHIPS:
            raise UsageError(f"--only: {name!r} is unknown; known: {', '.join(FLAGSHIPS)}")
    if threads:
        torch.set_num_threads(threads)
    place = processor(device, graphs=graphs)
    for folder in (output, checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names or FLAGSHIPS:
        flagship = FLAGSHIPS[name]
        settings = flagship.settings
        settings = replace(
            settings,
            batch=batch or settings.batch,
            learning_rate=learning_rate or settings.learning_rate,
            teacher_epochs=settings.teacher_epochs if teacher_epochs < 0 else teacher_epochs,
        )
        data, validation = (
            first(load(flagship.data, data_dir, part), images) for part in ("train", "validation")
        )
        _, height, width, colours = data.images.shape
        shape = Shape(height, width, colours)
        job = Job(
            architecture(flagship.network, shape, len(data.classes)),
            settings,
            data,
            validation,
            place,
            checkpoints / f"{name}.checkpoint",
            output / f"{name}.jsonl",
        )
        train(job, name, replace(flagship, settings=settings), output, 60 * minutes)


def first(data: Dataset, count: int) -> Dataset:
    """Return the first ``count`` images of ``data``; all if it is 0."""
    return replace(data, images=data.images[:count], labels=data.labels[:count]) if count else data


def train(job: Job, name: str, flagship: Flagship, output: Path, seconds: float) -> None:
    """Train for ``seconds``; write weights to ``output`` every ``WRITE_SECONDS`` and at the end."""
    say = speaker(name)
    say(f"{len(job.data.images)} images, {len(job.validation.images)} held out, {_hardware(job)}")
    fit, teacher = job.prepare(say, seconds - CLOSING_SECONDS)
    if teacher:
        write_teacher(output / f"{name}.teacher.safetensors", teacher)
    written = time.monotonic()

    def say_and_write(line: str) -> None:
        nonlocal written
        say(line)
        if time.monotonic() - written > WRITE_SECONDS:
            _write(fit, job, flagship, output / f"{name}.net.safetensors")
            written = time.monotonic()

    job.run(fit, say_and_write)
    if not fit.done:
        raise UsageError(
            f"--minutes: {seconds / 60:g} are too few for an epoch of {name}; give more"
        )
    _write(fit, job, flagship, output / f"{name}.net.safetensors")
    say(f"done, {fit.done} epochs")


def speaker(name: str) -> Say:
    """Return a function that prints lines with the time and ``name`` in front, unbuffered."""

    def say(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {name}: {line}", flush=True)  # noqa: T201

    return say


def _hardware(job: Job) -> str:
    place: Processor = job.processor
    return f"{torch.cuda.get_device_name() if place.cuda else 'CPU'}, graphs: {place.graphs}"


def _write(fit: Fit, job: Job, flagship: Flagship, path: Path) -> None:
    settings = replace(job.settings, epochs=fit.done)
    digest, validation = job.data.digest, fit.validate()
    write_network(
        path, fit.net, Trained(flagship.network, flagship.data, digest, settings, validation)
    )


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
