"""Train the codec tables of a bundle on the features of training images.

``python -m cloud.training.codec_tables BUNDLE`` replaces the tables of a bundle and leaves its
network unchanged: the version changes, the accuracy does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cloud.training.data.datasets import load
from cloud.training.split.context import ContextSettings, train_context
from cloud.training.split.evaluate import device_features
from cloud.training.split.table_command import (
    BundleWord,
    DataFolder,
    DataName,
    OutputFile,
    data_of,
    write_to,
)
from shared.bundles import bundle_path
from shared.errors import UsageError
from shared.model.bundle import Bundle, make_bundle, read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import DICTIONARY, FeatureCodec, saved_by_dictionary, train_dictionary
from shared.protocol.context_model import HIDDEN_STEP
from shared.typer_app import run_app

DICTIONARY_BYTES = 2048
DICTIONARY_IMAGES = 6000  # zstd recommends about 100 times the dictionary's size to train on
CONTEXT_IMAGES = 12_000  # more images only change the third digit of the payload's size
HELD_IMAGES = 1000  # not trained on; used to measure whether a dictionary helps
LEAST_SAVED = 0.05  # share of the bytes that a dictionary must save to be kept

Tensors = dict[str, npt.NDArray[Any]]
Meter = Callable[[int, int], None]

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
console = Console(stderr=True)


def codec_tensors(
    bundle: Bundle,
    images: npt.NDArray[np.uint8],
    settings: ContextSettings | None = None,
    meter: Meter = lambda done, total: None,  # noqa: ARG005
) -> Tensors:
    """Train dictionaries and the context model on images (N, H, W, C); return their tensors.

    Only dictionaries that save enough are kept. ``meter`` receives (steps done, all steps).
    """
    half = DeviceHalf(bundle)
    levels = range(len(bundle.architecture.device_levels))
    images = images[: CONTEXT_IMAGES + HELD_IMAGES]
    features = [device_features(half, images, level) for level in levels]
    held = min(HELD_IMAGES, len(images) // 2)
    tensors: Tensors = {}
    for level, rows in enumerate(features):
        dictionary = train_dictionary(rows[held:][:DICTIONARY_IMAGES], DICTIONARY_BYTES)
        if dictionary.size and saved_by_dictionary(dictionary, rows[:held]) >= LEAST_SAVED:
            tensors[f"codec.{level}.{DICTIONARY}"] = dictionary
    learnt = [rows[held:] for rows in features]
    architecture = bundle.architecture
    tensors |= train_context(learnt, architecture, settings or ContextSettings(), meter)
    return tensors


def with_codec(bundle: Bundle, tensors: Tensors) -> Bundle:
    """Return ``bundle`` with the codec's tables replaced by ``tensors``."""
    network = {n: t for n, t in bundle.tensors.items() if not n.startswith("codec.")}
    return make_bundle(bundle.metadata, network | tensors)


@app.command()
def retrain_tables(
    bundle: BundleWord,
    output: OutputFile = None,
    data: DataName = None,
    data_dir: DataFolder = Path("data"),
    hidden: Annotated[
        int, typer.Option(min=8, max=64, help="Width of the context model, a multiple of 8.")
    ] = ContextSettings.hidden,
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps of the context model.")
    ] = ContextSettings.steps,
    threads: Annotated[int, typer.Option(min=0, help="0 means all cores.")] = 0,
) -> None:
    """Train a bundle's codec tables again, from the training images of its data set."""
    if hidden % HIDDEN_STEP:
        raise UsageError(f"--hidden: {hidden} is not allowed; give a multiple of {HIDDEN_STEP}")
    path = bundle_path(bundle, "BUNDLE")
    given = read_bundle(path)
    if threads:
        torch.set_num_threads(threads)
    name = data_of(given, data)
    images = load(name, data_dir, "train").images
    settings = replace(ContextSettings(), hidden=hidden, steps=steps)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task("training the context model", total=None)

        def meter(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        tensors = codec_tensors(given, images, settings, meter)
    made = with_codec(given, tensors)
    console.print(_sizes(given, made, load(name, data_dir, "test").images))
    write_to(output or path, made, console)


def _sizes(before: Bundle, after: Bundle, images: npt.NDArray[np.uint8]) -> Table:
    """Return a table of the mean payload of one test image at every level, before and after."""
    half, codecs = DeviceHalf(after), (FeatureCodec(before), FeatureCodec(after))
    table = Table(title="mean payload of a test image, bytes")
    for column in ("d", "raw", "before", "after"):
        table.add_column(column, justify="right")
    for level, fraction in enumerate(after.architecture.device_levels):
        rows = device_features(half, images[:2000], level)
        means = [
            np.mean([len(codec.encode(row[None], level).payload) for row in rows])
            for codec in codecs
        ]
        table.add_row(f"{fraction:g}", str(rows.shape[1]), *(f"{mean:.1f}" for mean in means))
    return table


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
