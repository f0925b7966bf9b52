"""Run an experiment: train one of the paper's networks, or load it, and measure its curve."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from cloud.training.data.datasets import Dataset, load
from cloud.training.paper.curve import Curve, Point, read_curve, write_curve
from cloud.training.paper.loop import EpochDone, Trainer, calibration_images
from cloud.training.paper.recipes import RESIZABLE, Recipe, build, test_batch
from cloud.training.paper.regimes import SWEEP, Regime, regime
from cloud.training.paper.sweep import (
    PAPER_PROTOCOL,
    Evaluation,
    HeldOut,
    Statistics,
    dropouts_of,
    sweep,
)
from shared.errors import UsageError
from shared.model.architecture import Shape
from shared.networks.cost import cost
from shared.networks.incomplete import IncompleteNetwork
from shared.profiles import parse_ranges

console = Console(stderr=True)


@dataclass(frozen=True)
class Experiment:
    """All that determines a curve: a network, a regime with its options, and a recipe."""

    network: str
    regime: str
    recipe: Recipe
    profile: str | None = None  # None: the regime's default
    ranges: str | None = None  # option of multi-profile
    start: Experiment | None = None  # the experiment whose trained network this one starts from
    per_block: bool = False  # option of idp: every block draws its own fraction in each step

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
        """Return the regime; ``UsageError`` if the options do not fit together."""
        return regime(
            self.regime,
            self.profile,
            None if self.ranges is None else parse_ranges(self.ranges),
            per_block=self.per_block,
        )

    @property
    def name(self) -> str:
        """File name without suffix: network, regime, profile or ranges, data and seed."""
        shape = self.ranges or self.profile or self.make_regime().scheme.ranges[0].profile
        data = Path(self.recipe.data).name
        draws = ("per-block",) if self.per_block else ()
        words = (self.network, self.regime, *draws, shape, data, f"seed{self.recipe.seed}")
        return "-".join(words).replace(":", "_").replace(",", "_")

    def identity(self, train_set: Dataset) -> dict[str, Any]:
        """Return settings and digests as plain values; equal identities give equal networks."""
        scheme = self.make_regime().scheme
        return {
            "network": self.network,
            "regime": self.regime,
            "ranges": [[entry.above, entry.upto, entry.profile] for entry in scheme.ranges],
            "levels": list(scheme.levels),
            **asdict(self.recipe),
            "train_digest": train_set.digest,
            **({"per_block": True} if self.per_block else {}),
            **({} if self.start is None else {"start": self.start.identity(train_set)}),
        }


@dataclass(frozen=True)
class Places:
    """The folders of data and checkpoints, how to treat existing checkpoints, and the device."""

    data_dir: Path
    checkpoint_dir: Path
    resume: bool = False
    restart: bool = False
    device: torch.device = torch.device("cpu")  # noqa: RUF009


def run_experiment(
    experiment: Experiment, places: Places, more: Collection[Evaluation] = ()
) -> Curve:
    """Train the network unless a checkpoint has it already, and test it at every fraction.

    It is tested with ``usual_evaluations`` and ``more``. Network and curve are kept in the folder
    of checkpoints and reused. Raises ``UsageError`` if the checkpoint has another identity, or if
    it is unfinished and neither ``resume`` nor ``restart`` is set.
    """
    chosen = experiment.recipe
    # As in the paper, all training images are used; no choices are made on held-out ones.
    train_set, test_set = (
        load(chosen.data, places.data_dir, name, validation=0.0) for name in ("train", "test")
    )
    settings = {**experiment.identity(train_set), "test_digest": test_set.digest}
    path = places.checkpoint_dir / f"{experiment.name}.curve.json"
    kept = None if places.restart else read_curve(path)
    if kept is not None and kept.settings == settings and _names(more) <= set(kept.evaluations):
        return kept
    trainer = _trained(experiment, places, train_set)
    held_out = _held_out(trainer, train_set, test_set, test_batch(experiment.network))
    curve = _measure(trainer, settings, held_out, more)
    write_curve(path, curve)
    return curve


def usual_evaluations(
    network: IncompleteNetwork, *, calibrated: bool = False
) -> tuple[Evaluation, ...]:
    """Return all kinds of statistics, and the paper's protocol if the network has dropout.

    ``calibrated`` networks have statistics for every fraction instead of running statistics.
    """
    running = () if calibrated else (Evaluation(Statistics.RUNNING),)
    protocol = (PAPER_PROTOCOL,) if dropouts_of(network) else ()
    recalibrated, batch = Evaluation(Statistics.RECALIBRATED), Evaluation(Statistics.BATCH)
    return (recalibrated, batch, *running, *protocol)


def _names(evaluations: Collection[Evaluation]) -> set[str]:
    return {evaluation.name for evaluation in evaluations}


def _held_out(trainer: Trainer, train_set: Dataset, test_set: Dataset, batch: int) -> HeldOut:
    device, recipe = trainer.device, trainer.recipe
    images, labels = (values.to(device) for values in _tensors(test_set))
    calibration = calibration_images(_tensors(train_set)[0], recipe).to(device)
    return HeldOut(images, labels, calibration, batch)


def _measure(
    trainer: Trainer, settings: dict[str, Any], data: HeldOut, more: Collection[Evaluation]
) -> Curve:
    network, calibrated = trainer.network, trainer.regime.recalibrated
    usual = usual_evaluations(network, calibrated=calibrated)
    measured = {
        evaluation.name: sweep(network, data, SWEEP, evaluation, calibrated=calibrated)
        for evaluation in dict.fromkeys((*usual, *more))
    }
    points = []
    for index, fraction in enumerate(SWEEP):
        spent = cost(network, tuple(data.images.shape[1:]), fraction)
        shares = {name: values[index] for name, values in measured.items()}
        points.append(Point(fraction, shares, spent.macs, spent.parameter_bytes))
    return Curve(
        settings,
        tuple(points),
        len(data.images),
        round(trainer.progress.seconds, 1),
        torch.get_num_threads(),
        torch.__version__,
        trainer.device.type,
    )


def _trained(experiment: Experiment, places: Places, train_set: Dataset) -> Trainer:
    """Return a finished trainer, resumed from the checkpoint if there is one."""
    make = experiment.make_regime()
    _, height, width, colours = train_set.images.shape
    torch.manual_seed(experiment.recipe.seed)
    network = build(
        experiment.network, Shape(height, width, colours), len(train_set.classes), make.scheme
    )
    network.to(places.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
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
        # --restart applies to this network, not to the one that it starts from.
        earlier = replace(places, restart=False)
        network.begin_with(_trained(experiment.start, earlier, train_set).network)
    _train(trainer, *_tensors(train_set), experiment.name)
    return trainer


def _train(trainer: Trainer, images: Tensor, labels: Tensor, name: str) -> None:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    quiet = not console.is_terminal  # no progress bar in log files
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task(name, total=None)

        def on_step(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        def on_epoch(report: EpochDone) -> None:
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
