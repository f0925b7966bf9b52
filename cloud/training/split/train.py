"""``python -m cloud.training.train``: train a split binary network and write its bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cloud.training.data.augment import AUGMENTATIONS
from cloud.training.data.datasets import DATA_DIR_VARIABLE, splits_of
from cloud.training.split.architectures import ARCHITECTURES
from cloud.training.split.board import summary_writer
from cloud.training.split.job import Job, check_output
from cloud.training.split.making import architecture_of, bundle_of, check_fits
from cloud.training.split.network_file import Trained, is_network, read_network, write_network
from cloud.training.split.processor import processor
from cloud.training.split.recorded_command import command_line
from cloud.training.split.settings import PAIR_RULES, Settings
from cloud.training.split.start import read_start, start_path
from shared.errors import UsageError
from shared.model.bundle import Bundle, write_bundle
from shared.networks.binarynet import BinaryNet
from shared.typer_app import run_app

DEFAULTS = Settings()
AUGMENT_HELP = f"One of {', '.join(AUGMENTATIONS)}."
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
console = Console(stderr=True)


@app.command()
def train(
    output: Annotated[
        Path | None, typer.Option(help="Bundle file to write (*.safetensors).")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File to which the trained weights are written, for --from.")
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            help=f"One of {', '.join(sorted(ARCHITECTURES))}, or MODULE:NAME of a function."
        ),
    ] = "",
    described: Annotated[
        Path | None,
        typer.Option("--architecture", help="A network file (*.toml), in place of --network."),
    ] = None,
    data: Annotated[
        str, typer.Option(help="mnist, fashion-mnist, cifar10, an imported set, or a folder.")
    ] = "",
    epochs: Annotated[
        int | None, typer.Option(min=0, help=f"{DEFAULTS.epochs}; with --from none.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2)] = DEFAULTS.batch,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = DEFAULTS.learning_rate,
    warm_up: Annotated[
        float, typer.Option(min=0.0, help="Number of epochs in which the rate rises.")
    ] = DEFAULTS.warm_up,
    decay: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of the epochs in which it falls to 0.")
    ] = DEFAULTS.decay,
    average: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Share of the epochs, at the end, whose weights are averaged."
        ),
    ] = DEFAULTS.average,
    seeds: Annotated[
        str, typer.Option(help="Seeds such as 1,2,3: trains with each, and prints mean and spread.")
    ] = str(DEFAULTS.seed),
    augment: Annotated[str, typer.Option(help=AUGMENT_HELP)] = DEFAULTS.augment,
    pairs: Annotated[
        str, typer.Option(help=f"Level pairs that a step trains: {', '.join(PAIR_RULES)}.")
    ] = DEFAULTS.pairs,
    random_pairs: Annotated[
        int, typer.Option(min=0, help="Number of random pairs among them.")
    ] = DEFAULTS.random_pairs,
    widest_weight: Annotated[
        float,
        typer.Option(
            min=0.0, help="Weight of the widest pair's loss; that of the others is 1 each."
        ),
    ] = DEFAULTS.widest_weight,
    exit_weight: Annotated[
        float, typer.Option(min=0.0, help="Weight of the exit heads' losses.")
    ] = DEFAULTS.exit_weight,
    label_weight: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Weight of the labels beside the teacher's answer."),
    ] = DEFAULTS.label_weight,
    temperature: Annotated[
        float, typer.Option(min=0.1, help="Temperature at which the teacher's answer is learnt.")
    ] = DEFAULTS.temperature,
    teacher_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs of the float network to learn from; 0: none.")
    ] = DEFAULTS.teacher_epochs,
    teacher_width: Annotated[
        int, typer.Option(min=1, help="Channels of the teacher's first layer.")
    ] = DEFAULTS.teacher_width,
    teacher_augment: Annotated[str, typer.Option(help=AUGMENT_HELP)] = DEFAULTS.teacher_augment,
    bfloat16: Annotated[
        bool,
        typer.Option(
            help="Compute the convolutions of steps in bfloat16, if the processor supports it."
        ),
    ] = DEFAULTS.bfloat16,
    calibration_images: Annotated[
        int,
        typer.Option(min=0, help="Number of pictures for calibration; 0: chosen by their size."),
    ] = DEFAULTS.calibration_images,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File of the training's state; an existing one is continued."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Start again, even if there is a checkpoint.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(help="File to which a line of JSON is added after each epoch.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard (extra tensorboard).")
    ] = None,
    given: Annotated[
        str,
        typer.Option(
            "--from",
            help="Weights to begin with (without --epochs, to export), or a bundle or its name. "
            "With another --network or --architecture they are the leading channels of a wider "
            "one.",
        ),
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_dir: Annotated[
        Path, typer.Option(envvar=DATA_DIR_VARIABLE, help="Folder of fetched data sets.")
    ] = Path("data"),
    threads: Annotated[int, typer.Option(min=0, help="0 means all cores.")] = 0,
) -> None:
    """Train a split binary network over the grid of device and cloud fractions.

    The bundle holds the packed network and its accuracy on the test set at every pair of levels. If
    the checkpoint exists, the training is resumed from it, also with more epochs than before.
    """
    if threads:
        torch.set_num_threads(threads)
    if not output and not weights:
        raise UsageError("--output or --weights: give the file to write")
    for path, flag in ((output, "--output"), (weights, "--weights"), (log, "--log")):
        if path:
            check_output(path, flag)
    if tensorboard:
        summary_writer()  # fails now, before the training, if it is not installed
    path = start_path(given) if given else None
    if path and output and epochs is None:
        if not is_network(path):
            raise UsageError(f"--epochs: give the number for which {given} is trained on")
        show([export_network(*read_network(path), data_dir, output)])
        return
    start = read_start(path) if path else None
    if network and described:
        raise UsageError("--network and --architecture: give one of them")
    data = data or (start.data if start else "")
    if not data or not (network or described or start):
        raise UsageError("--network and --data: both are needed, unless --from is given")
    settings = Settings(
        epochs=DEFAULTS.epochs if epochs is None else epochs,
        batch=batch,
        learning_rate=learning_rate,
        warm_up=warm_up,
        decay=decay,
        average=average,
        augment=augment,
        pairs=pairs,
        random_pairs=random_pairs,
        widest_weight=widest_weight,
        exit_weight=exit_weight,
        label_weight=label_weight,
        temperature=temperature,
        teacher_epochs=teacher_epochs,
        teacher_width=teacher_width,
        teacher_augment=teacher_augment,
        bfloat16=bfloat16,
        calibration_images=calibration_images,
    )
    place = processor(device)
    # Loads the test set too, so that a missing one is noticed before the training.
    pictures = splits_of(data, data_dir)
    if described:
        network, made = described.name, architecture_of(described, pictures)
    elif network or not start:
        made = architecture_of(network, pictures)
    else:
        network, made = start.network, start.architecture
        check_fits(made, pictures, "--from: its network takes")
    net = start.network_over(pictures.train) if start else None
    chosen = parse_seeds(seeds)
    bundles = []
    for seed in chosen:
        target, kept, state, lines = (
            of_seed(path, seed, alone=len(chosen) == 1)
            for path in (output, weights, checkpoint, log)
        )
        run = replace(settings, seed=seed)
        folder = tensorboard and tensorboard / f"seed{seed}"
        job = Job(made, run, pictures.train, pictures.validation, place, state, lines, net, folder)
        if overwrite:
            job.remove_checkpoints()
        trained_net, validation = train_network(job)
        trained = Trained(network, data, pictures.train.digest, run, validation)
        if start:
            trained = replace(trained, history=start.history, start=start.file)
        if kept:
            write_network(kept, trained_net, trained)
        if target:
            bundles.append(export_network(trained_net, trained, data_dir, target))
    if bundles:
        show(bundles)


def train_network(job: Job) -> tuple[BinaryNet, dict[str, float]]:
    """Train the network of ``job``; return it, not yet calibrated, and its validation accuracies.

    Shows a progress bar and a line for every epoch.
    """
    with progress_bar() as progress:
        task = progress.add_task(f"training {job.architecture.name}", total=None)

        def on_step(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        def say(line: str) -> None:
            progress.console.print(line, highlight=False, soft_wrap=True)

        fit, _ = job.prepare(say)
        job.run(fit, say, on_step)
    return fit.net, fit.validate()


def progress_bar() -> Progress:
    """Return a progress bar with the steps done and the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def export_network(net: BinaryNet, trained: Trained, data_dir: Path, output: Path) -> Bundle:
    """Calibrate ``net``, measure it on the test set and write its bundle.

    ``UsageError`` if the data set is not the one that it was trained on.
    """
    data = splits_of(trained.data, data_dir)
    if data.train.digest != trained.data_digest:
        raise UsageError(f"--data: {trained.data} is not what the network was trained on")
    command = "; ".join((*trained.history, command_line(trained, output.name)))
    about = {"command": command, "data": trained.data}
    with progress_bar() as progress:
        task = progress.add_task("calibrating", total=None)

        def on_step(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if done == total:
                progress.console.print("training the codec, and measuring on the test set ...")

        bundle = bundle_of(net, data, trained.settings, output.stem, about, on_step)
    write_bundle(bundle, output)
    console.print(f"wrote {output}, {output.stat().st_size} bytes")
    return bundle


def parse_seeds(text: str) -> list[int]:
    """Parse whole numbers separated by commas, without repetitions; ``UsageError``."""
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds: {text!r} is not allowed; give different numbers, such as 1,2,3")
    return seeds


def of_seed(path: Path | None, seed: int, *, alone: bool) -> Path | None:
    """Return the path for one of several seeds, such as ``name-seed2.safetensors``."""
    return path if path is None or alone else path.with_stem(f"{path.stem}-seed{seed}")


def show(bundles: list[Bundle]) -> None:
    """Print the accuracy in percent, by device level (rows) and cloud level (columns).

    For several bundles it prints the mean and the standard deviation.
    """
    accuracy = 100 * np.array([bundle.metadata.accuracy for bundle in bundles])
    mean = accuracy.mean(axis=0)
    spread = accuracy.std(axis=0, ddof=1) if len(bundles) > 1 else None
    metadata, made = bundles[0].metadata, bundles[0].architecture
    table = Table(title=f"{metadata.name}: accuracy on the test set, percent")
    table.add_column("device \\ cloud", justify="right")
    for fraction in made.cloud_levels:
        table.add_column(f"{fraction:g}", justify="right")
    for row, fraction in enumerate(made.device_levels):
        cells = [f"{value:.2f}" for value in mean[row]]
        if spread is not None:
            pairs = zip(cells, spread[row], strict=True)
            cells = [f"{cell} ± {deviation:.2f}" for cell, deviation in pairs]
        table.add_row(f"{fraction:g}", *cells)
    console.print(table)


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
