"""The training loop of incomplete networks for all regimes; killed trainings can be resumed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloud.training import checkpoint
from cloud.training.data.augment import AUGMENTATIONS
from cloud.training.data.batches import Batching, batches, mix
from cloud.training.low_precision import low_precision
from cloud.training.paper.recipes import Recipe
from cloud.training.paper.regimes import Frozen, Regime, Step
from cloud.training.paper.resolution import resize, resolution
from cloud.training.paper.sweep import calibrate
from cloud.training.schedules import schedule
from shared.networks.incomplete import IncompleteNetwork

MOMENTUM = 0.9


@dataclass(frozen=True)
class EpochDone:
    """The result of an epoch: its number over all stages, mean loss at full width, seconds."""

    epoch: int
    epochs: int
    loss: float
    seconds: float


@dataclass
class Progress:
    """The progress of a training, kept in the checkpoint."""

    epochs_done: int = 0
    seconds: float = 0.0
    finished: bool = False  # trained and calibrated


class Trainer:
    """Trains a network in place.

    ``identity`` holds the settings; checkpoints with other settings are refused. Random numbers
    depend only on the seed and the epoch. So on a CPU with the same number of threads, a resumed
    training gives bit for bit the same weights as an uninterrupted one.
    """

    def __init__(
        self,
        network: IncompleteNetwork,
        regime: Regime,
        recipe: Recipe,
        identity: Mapping[str, Any],
        path: Path | None = None,
    ) -> None:
        self.network = network
        self.regime = regime
        self.recipe = recipe
        self.identity = identity
        self.path = path
        self.progress = Progress()
        self._plan = Batching(recipe.batch, recipe.augment, recipe.seed)
        self._optimiser = self._new_optimiser()

    @property
    def device(self) -> torch.device:
        """The device of the network, to which the training data are moved."""
        return next(self.network.parameters()).device

    @property
    def epochs(self) -> int:
        """The number of epochs of all stages together."""
        return self.recipe.epochs * self.regime.stages

    def resume(self) -> bool:
        """Load the checkpoint; False if there is none. ``UsageError``: it has another identity."""
        state = checkpoint.load(self.path, self.identity) if self.path else None
        if state is None:
            return False
        self.network.load_state_dict(state["network"])
        self.progress = Progress(**state["progress"])
        self._optimiser = self._new_optimiser()
        if state["optimiser"] is not None:
            self._optimiser.load_state_dict(state["optimiser"])
        return True

    def train(
        self,
        images: Tensor,
        labels: Tensor,
        on_step: Callable[[int, int], None] | None = None,
        on_epoch: Callable[[EpochDone], None] | None = None,
    ) -> None:
        """Train the remaining epochs on images (N, C, H, W) uint8 and labels (N,)."""
        steps = self._plan.steps(len(images))
        chosen = calibration_images(images, self.recipe) if self.regime.recalibrated else None
        images, labels = images.to(self.device), labels.to(self.device)
        while self.progress.epochs_done < self.epochs:
            epoch = self.progress.epochs_done
            began = time.monotonic()

            def step_done(step: int, epoch: int = epoch) -> None:
                if on_step:
                    on_step(epoch * steps + step + 1, self.epochs * steps)

            loss = self._epoch(images, labels, epoch, step_done)
            seconds = time.monotonic() - began
            self.progress.epochs_done += 1
            self.progress.seconds += seconds
            self._save(done=False)
            if on_epoch:
                on_epoch(EpochDone(epoch + 1, self.epochs, loss, seconds))
        if not self.progress.finished:
            if chosen is not None:
                chosen = chosen.to(self.device)
                for level in self.regime.scheme.levels:
                    calibrate(self.network, chosen, level)
            self.progress.finished = True
            self._save(done=True)
        self.network.eval()

    def _epoch(
        self, images: Tensor, labels: Tensor, epoch: int, on_step: Callable[[int], None]
    ) -> float:
        recipe, network = self.recipe, self.network
        stage, epoch_of_stage = divmod(epoch, recipe.epochs)
        if stage and not epoch_of_stage:
            network.inherit(stage)
        if not epoch_of_stage:
            self._optimiser = self._new_optimiser()
        frozen = Frozen(network, tuple(images.shape[1:]), stage)
        share = schedule(recipe.schedule)
        side = resolution(recipe.resolution)(epoch_of_stage, recipe.epochs)
        epoch_steps = self._plan.steps(len(images))
        step = Step(stage, random.Random(mix(recipe.seed, epoch)), recipe.smoothing)  # noqa: S311
        torch.manual_seed(mix(recipe.seed, epoch))  # dropout
        network.train()
        total = torch.zeros((), device=self.device)
        for index, (x, y) in enumerate(batches(images, labels, self._plan, epoch)):
            done = epoch_of_stage * epoch_steps + index
            for group in self._optimiser.param_groups:
                group["lr"] = recipe.learning_rate * share(done, epoch_steps, recipe.epochs)
            self._optimiser.zero_grad()
            losses = self.regime.losses(network, resize(x, side), y, step)
            first = True
            while (loss := self._next(losses)) is not None:
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach() if first else 0
                first = False
            self._optimiser.step()
            frozen.restore()
            network.settle()
            on_step(index)
        return float(total) / max(epoch_steps, 1)

    def _next(self, losses: Iterator[Tensor]) -> Tensor | None:
        # On GPUs always bfloat16: a step in float32 takes several times as long.
        wanted = self.recipe.bfloat16 or self.device.type == "cuda"
        with low_precision(self.device, wanted=wanted):
            return next(losses, None)

    def _new_optimiser(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        parameters = list(self.network.parameters())
        if recipe.optimiser == "adam":
            return torch.optim.Adam(
                parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
            )
        optimiser = torch.optim.SGD(
            parameters,
            lr=recipe.learning_rate,
            momentum=MOMENTUM,
            nesterov=recipe.optimiser == "sgd",
            weight_decay=recipe.weight_decay,
            fused=self.device.type == "cpu",  # one pass over weights, gradients and momentum
        )
        # The fused kernel needs the momentum of all weights from the start, but weights of widths
        # that have not been drawn yet have no gradient; so set it to 0 here.
        for parameter in parameters:
            optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimiser

    def _save(self, done: bool) -> None:
        if self.path:
            state = {
                "network": self.network.state_dict(),
                "optimiser": None if done else self._optimiser.state_dict(),
                "progress": vars(self.progress),
            }
            checkpoint.save(self.path, self.identity, state)


def calibration_images(images: Tensor, recipe: Recipe) -> Tensor:
    """Return training images to measure statistics on, chosen by the seed: (n, C, H, W) uint8.

    They are augmented as in training, since e.g. the black borders of shifted images change the
    mean and variance of every layer.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    order = torch.randperm(len(images), generator=generator)
    chosen = images[order[: recipe.calibration_images]]
    return AUGMENTATIONS[recipe.augment](chosen.float(), generator).to(torch.uint8)
