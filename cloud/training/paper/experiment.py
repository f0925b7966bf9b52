"""``python -m cloud.training.experiment``: train one network by one regime, sweep its fractions."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pooch
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from cloud.training.data.augment import AUGMENTATIONS
from cloud.training.data.datasets import DATA_DIR_VARIABLE, Dataset, load
from cloud.training.data.known import KNOWN
from cloud.training.paper.curve import Curve, Point, read_curve, write_curve
from cloud.training.paper.loop import EpochReport, Trainer, calibration_images
from cloud.training.paper.recipes import NETWORKS, OPTIMISERS, RESIZABLE, Recipe, build, recipe
from cloud.training.paper.regimes import REGIMES, SWEEP, Regime, regime
from cloud.training.paper.resolution import RESOLUTIONS
from cloud.training.paper.sweep import accuracy, recalibrated_accuracy
from cloud.training.schedules import SCHEDULES
from shared.errors import UsageError
from shared.model.architecture import Shape
from shared.networks.cost import cost
from shared.profiles import PROFILES, parse_ranges
from shared.typer_app import run_app

CHECKPOINT_DIR_VARIABLE = "TAPER_CHECKPOINTS"
CHECKPOINT_DIR = Path(str(pooch.os_cache("taper"))) / "checkpoints"

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
console = Console(stderr=True)


@dataclass(frozen=True)
class Experiment:
    """One curve: what is trained, and how."""

    network: str
    regime: str
    recipe: Recipe
    profile: str | None = None  # None: the regime's own
    ranges: str | None = None  # of multi-profile
    start: Experiment | None = None  # whose finished network is trained on

    def __post_init__(self) -> None:
        if self.recipe.resolution != "full" and self.network not in RESIZABLE:
            raise UsageError(
                f"--resolution: {self.network} takes full images only; "
                f"{', '.join(RESIZABLE)} take any"
            )
        if self.start is not None:
            theirs, ours = self.start.make_regime().scheme, self.make_regime().scheme
            if len(theirs.levels) > 1 or theirs.ranges != ours.ranges:
                raise UsageError(
                    f"--start: {self.start.regime} does not fit {self.regime}; begin with a regime "
                    "of the same single profile and a single set of statistics"
                )

    def make_regime(self) -> Regime:
        """The strategy; ``UsageError`` if what was given does not fit together."""
        return regime(
            self.regime, self.profile, None if self.ranges is None else parse_ranges(self.ranges)
        )

    @property
    def name(self) -> str:
        """For files: network, regime, profile or ranges, data and seed."""
        shape = self.ranges or self.profile or self.make_regime().scheme.ranges[0].profile
        data = Path(self.recipe.data).name
        words = (self.network, self.regime, shape, data, f"seed{self.recipe.seed}")
        return "-".join(words).replace(":", "_").replace(",", "_")

    def identity(self, train_set: Dataset) -> dict[str, Any]:
        """Plain values that tell this training from every other one."""
        scheme = self.make_regime().scheme
        return {
            "network": self.network,
            "regime": self.regime,
            "ranges": [[entry.above, entry.upto, entry.profile] for entry in scheme.ranges],
            "levels": list(scheme.levels),
            **asdict(self.recipe),
            "train_digest": train_set.digest,
            **({} if self.start is None else {"start": self.start.identity(train_set)}),
        }


@dataclass(frozen=True)
class Places:
    """Where data and checkpoints are, and what to do with a checkpoint that is there."""

    data_dir: Path
    checkpoint_dir: Path
    resume: bool = False
    restart: bool = False


def run_experiment(experiment: Experiment, places: Places) -> Curve:
    """Train what is missing and measure the test set at every fraction.

    Both are kept in the folder of checkpoints and not done again: measuring a large network takes
    minutes too, and two figures may share a curve.

    ``UsageError``: the checkpoint is another training's, or unfinished and neither ``resume`` nor
    ``restart`` is given.
    """
    chosen = experiment.recipe
    # the papers train on all training images
    train_set, test_set = (
        load(chosen.data, places.data_dir, name, validation=0.0) for name in ("train", "test")
    )
    settings = {**experiment.identity(train_set), "test_digest": test_set.digest}
    path = places.checkpoint_dir / f"{experiment.name}.curve.json"
    kept = None if places.restart else read_curve(path)
    if kept is None or kept.settings != settings:
        kept = _measure(_trained(experiment, places, train_set), settings, train_set, test_set)
        write_curve(path, kept)
    return kept


def _measure(
    trainer: Trainer, settings: dict[str, Any], train_set: Dataset, test_set: Dataset
) -> Curve:
    network, (images, _) = trainer.network, _tensors(train_set)
    test_images, test_labels = _tensors(test_set)
    shares = [accuracy(network, test_images, test_labels, fraction) for fraction in SWEEP]
    again = shares  # of a regime that measures a set of statistics for every fraction itself
    if not trainer.regime.recalibrated:
        chosen = calibration_images(images, trainer.recipe)
        again = recalibrated_accuracy(network, chosen, test_images, test_labels, SWEEP)
    points = []
    for fraction, share, recalibrated in zip(SWEEP, shares, again, strict=True):
        spent = cost(network, tuple(images.shape[1:]), fraction)
        points.append(Point(fraction, share, recalibrated, spent.macs, spent.parameter_bytes))
    return Curve(
        settings,
        tuple(points),
        len(test_images),
        round(trainer.progress.seconds, 1),
        torch.get_num_threads(),
        torch.__version__,
    )


def _trained(experiment: Experiment, places: Places, train_set: Dataset) -> Trainer:
    """A trainer that has finished, from its checkpoint as far as that goes."""
    make = experiment.make_regime()
    _, height, width, colours = train_set.images.shape
    torch.manual_seed(experiment.recipe.seed)
    network = build(
        experiment.network, Shape(height, width, colours), len(train_set.classes), make.scheme
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    path = places.checkpoint_dir / f"{experiment.name}.pt"
    if places.restart:
        path.unlink(missing_ok=True)
    trainer = Trainer(network, make, experiment.recipe, experiment.identity(train_set), path)
    found = trainer.resume()
    if found and not (trainer.progress.finished or places.resume):
        raise UsageError(
            f"checkpoint {path}: stands at epoch {trainer.progress.epochs_done} of "
            f"{trainer.epochs}; give --resume to go on or --restart to begin anew"
        )
    if not found and experiment.start is not None:
        # An earlier network is never trained anew because a later one is.
        earlier = replace(places, restart=False)
        network.begin_with(_trained(experiment.start, earlier, train_set).network)
    _train(trainer, *_tensors(train_set), experiment.name)
    return trainer


def _train(trainer: Trainer, images: Tensor, labels: Tensor, name: str) -> None:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    quiet = not console.is_terminal  # a bar in a log file is only noise
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task(name, total=None)

        def on_step(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        def on_epoch(report: EpochReport) -> None:
            line = f"{name}: epoch {report.epoch}/{report.epochs}"
            progress.console.print(
                f"{line}, loss {report.loss:.4f}, {report.seconds:.1f} s",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

        trainer.train(images, labels, on_step, on_epoch)


def _tensors(data: Dataset) -> tuple[Tensor, Tensor]:
    # (N, H, W, C) -> (N, C, H, W)
    return torch.from_numpy(data.images).permute(0, 3, 1, 2), torch.from_numpy(data.labels)


def curve_table(name: str, curve: Curve) -> Table:
    """Accuracy and cost over fractions."""
    table = Table(title=f"{name}: {curve.test_images} test images")
    for heading in ("channels", "accuracy", "recalibrated", "multiply-accumulates", "parameters"):
        table.add_column(heading, justify="right")
    full = curve.points[-1]
    for point in curve.points:
        table.add_row(
            f"{point.fraction:.0%}",
            f"{point.accuracy:.2%}",
            f"{point.recalibrated:.2%}",
            f"{point.macs:,} ({point.macs / full.macs:.1%})",
            f"{point.parameter_bytes:,} B",
        )
    return table


DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar=DATA_DIR_VARIABLE, help="Folder of fetched data sets.")
]
CheckpointDir = Annotated[
    Path,
    typer.Option(
        "--checkpoint-dir",
        envvar=CHECKPOINT_DIR_VARIABLE,
        help="Where trained networks are kept; the default is in the user's cache folder.",
        show_default=False,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from an unfinished checkpoint.")]
Restart = Annotated[bool, typer.Option("--restart", help="Remove checkpoints and begin anew.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="0 means all cores.")]


def prepare(threads: int) -> None:
    """Before the first layer runs: how many threads compute (0: all cores)."""
    # A random fraction gives every layer shapes of its own, and oneDNN compiles a kernel for each;
    # the 1,024 that it keeps by default are forgotten before they are met again.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32768")
    if threads:
        torch.set_num_threads(threads)


@app.command()
def experiment(
    network: Annotated[str, typer.Option(help=f"One of {', '.join(NETWORKS)}.")],
    regime_name: Annotated[str, typer.Option("--regime", help=f"One of {', '.join(REGIMES)}.")],
    data: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(KNOWN)}, or a folder of IDX files."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(PROFILES)}, or values such as 1,0.8,0.1."),
    ] = None,
    ranges: Annotated[
        str | None, typer.Option(help="Of multi-profile, such as 0-0.2:linear,0.2-1:linear.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="A regime whose network, trained as the recipe says, this training begins with."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of every stage.")] = None,
    batch: Annotated[int | None, typer.Option()] = None,
    optimiser: Annotated[str | None, typer.Option(help=f"One of {', '.join(OPTIMISERS)}.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0)] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0)] = None,
    augment: Annotated[str | None, typer.Option(help=f"One of {', '.join(AUGMENTATIONS)}.")] = None,
    schedule: Annotated[str | None, typer.Option(help=f"One of {', '.join(SCHEDULES)}.")] = None,
    resolution: Annotated[
        str | None, typer.Option(help=f"Of training images, one of {', '.join(RESOLUTIONS)}.")
    ] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    data_dir: DataDir = Path("data"),
    checkpoint_dir: CheckpointDir = CHECKPOINT_DIR,
    resume: Resume = False,
    restart: Restart = False,
    threads: Threads = 0,
) -> None:
    """Train one of the paper's networks and print its accuracy at 10 to 100% of the channels.

    What is not given is taken from the network's recipe.
    """
    prepare(threads)
    given = {
        "data": data,
        "epochs": epochs,
        "batch": batch,
        "optimiser": optimiser,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "augment": augment,
        "schedule": schedule,
        "resolution": resolution,
        "seed": seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    own = replace(recipe(network), **changes)  # type: ignore[arg-type]
    wanted = Experiment(network, regime_name, own, profile, ranges)
    if start is not None:
        usual = replace(recipe(network), data=own.data, seed=own.seed)
        wanted = replace(wanted, start=Experiment(network, start, usual, profile))
    curve = run_experiment(wanted, Places(data_dir, checkpoint_dir, resume, restart))
    Console().print(curve_table(wanted.name, curve))


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
