"""The training loop of split binary networks: epochs, validation, checkpoints, weight averaging.

A step trains the widest pair of levels and some others. All learn from a float teacher if there is
one; otherwise the others learn from the widest pair (inplace distillation). Source: Yu and Huang,
"Universally Slimmable Networks" (arXiv 1903.05134), here over a grid of two fractions.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloud.training import checkpoint
from cloud.training.data.batches import batches, mix
from cloud.training.split.budget import Budget
from cloud.training.split.pairs import draw_pairs
from cloud.training.split.processor import CPU, Processor
from cloud.training.split.samples import Samples
from cloud.training.split.schedule import Plan, plan
from cloud.training.split.settings import Settings
from cloud.training.split.steps import Stepper
from cloud.training.split.teacher import Teacher
from cloud.training.split.validation import validate
from shared.errors import UsageError
from shared.networks.binarynet import BinaryNet

SAVE_SECONDS = 20  # seconds between checkpoints; a kill loses at most these and an epoch
Weights = dict[str, Tensor]
OnStep = Callable[[int, int | None], None]  # (steps done, all steps or None if unknown)


@dataclass(frozen=True)
class EpochReport:
    """The result of an epoch: mean loss and accuracy of the widest pair, seconds.

    ``epochs`` is the number of all epochs, None while a budget leaves it open. ``validation`` holds
    the accuracy on the held-out images by "d,c", with batch statistics.
    """

    epoch: int
    epochs: int | None
    rate: float
    loss: float
    accuracy: float
    validation: dict[str, float]
    seconds: float


class Fit:
    """Trains ``net`` in place.

    ``identity`` identifies network, data and settings; checkpoints with another one are refused.
    With a ``budget`` the number of epochs is decided during the training, to fit into its time.
    """

    def __init__(
        self,
        net: BinaryNet,
        settings: Settings,
        data: Samples,
        held: Samples,
        identity: dict[str, Any],
        *,
        processor: Processor = CPU,
        teacher: Teacher | None = None,
        budget: Budget | None = None,
    ) -> None:
        net.to(processor.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net = net
        self._settings = settings
        self._processor = processor
        self._data, self._held = data.to(processor.device), held.to(processor.device)
        self._teacher = None if teacher is None else teacher.to(processor.device).eval()
        self._budget = budget
        trained = {name: value for name, value in asdict(settings).items() if name != "epochs"}
        self._identity = {**identity, **trained, "architecture": repr(net.architecture)}
        self._stepper = Stepper(net, settings, processor)
        self._plan = plan(settings, None if budget else settings.epochs)
        self._epoch_steps = settings.batching.steps(len(data.images))
        self._done = 0
        self._average: Weights = {}
        self._averaged = 0
        self._best: Weights = {}
        self._best_score = -1.0

    @property
    def done(self) -> int:
        """Number of epochs trained so far."""
        return self._done

    def resume(self, path: Path) -> int:
        """Resume from the checkpoint at ``path``, if it exists; return the number of epochs done.

        If more epochs are requested than a finished training had, it continues from where its rate
        began to fall. ``UsageError`` if the file is no checkpoint, or has another identity or too
        many epochs.
        """
        state = self._load(path)
        if state is None:
            return 0
        if self._plan.epochs is None:
            self._plan = replace(self._plan, epochs=state["epochs"])
        self.net.load_state_dict(state["network"])
        self._stepper.load(state["optimiser"])
        self._done, self._averaged = state["done"], state["averaged"]
        self._best_score = state["best_score"]
        self._average, self._best = (
            {name: value.to(self._processor.device) for name, value in state[kept].items()}
            for kept in ("average", "best")
        )
        return self._done

    def run(
        self,
        path: Path | None = None,
        on_step: OnStep | None = None,
        on_epoch: Callable[[EpochReport], None] | None = None,
    ) -> None:
        """Train the remaining epochs; ``net`` ends with the weights of the best validation
        accuracy.

        These may be the last weights, those of an earlier epoch, or the average over the last
        epochs. The state is saved at ``path`` after every epoch (at most every ``SAVE_SECONDS``),
        and in another file beside it when the rate begins to fall.
        """
        saved = time.monotonic()
        while not self._finished():
            report = self._reported_epoch(on_step)
            if on_epoch:
                on_epoch(report)
            if path and self._done == self._plan.fall:
                self._save(trunk_of(path))
            if path and time.monotonic() - saved > SAVE_SECONDS:
                self._save(path)
                saved = time.monotonic()
        if path:
            self._save(path)
        self._choose()

    def _reported_epoch(self, on_step: OnStep | None) -> EpochReport:
        began = time.monotonic()
        falling = self._plan.falling(self._done)
        loss, accuracy = self._epoch(on_step)
        self._done += 1
        self._add_to_average()
        validation = self.validate()
        self._keep_best(validation)
        seconds = time.monotonic() - began
        if self._budget:
            self._budget.spent(seconds, falling=falling)
        rate = self._settings.learning_rate * self._plan.share(self._done)
        return EpochReport(self._done, self._plan.epochs, rate, loss, accuracy, validation, seconds)

    def validate(self) -> dict[str, float]:
        """Return the present accuracy on the held-out images, at several "d,c"."""
        return validate(self.net, self._held.images, self._held.labels)

    def _finished(self) -> bool:
        if self._budget and self._plan.epochs is None:
            epochs = self._budget.epochs(self._done, self.net.architecture, self._settings)
            self._plan = replace(self._plan, epochs=epochs)
        if self._budget and self._budget.over():
            return True
        return self._plan.epochs is not None and self._done >= self._plan.epochs

    def _epoch(self, on_step: OnStep | None) -> tuple[float, float]:
        settings, epoch = self._settings, self._done
        generator = random.Random(mix(settings.seed, epoch))  # noqa: S311 - training
        total = None if self._plan.epochs is None else self._plan.epochs * self._epoch_steps
        self.net.train()
        data = self._data
        for step, (x, y) in enumerate(batches(data.images, data.labels, settings.batching, epoch)):
            rate = self._plan.share(epoch + step / self._epoch_steps)
            self._stepper.set_rate(settings.learning_rate * rate)
            pairs = draw_pairs(
                self.net.architecture, settings, generator, falling=self._plan.falling(epoch)
            )
            lesson = None if self._teacher is None else self._teacher.answer(x)
            self._stepper.step(x, y, pairs, lesson)
            if on_step:
                on_step(epoch * self._epoch_steps + step + 1, total)
        return self._stepper.totals()

    @torch.no_grad()
    def _add_to_average(self) -> None:
        start = self._plan.average_from
        if start is None or self._done <= start:
            return
        self._averaged += 1
        for name, value in self.net.named_parameters():
            if name not in self._average:
                self._average[name] = value.detach().clone()
            self._average[name].lerp_(value, 1 / self._averaged)

    def _keep_best(self, validation: dict[str, float]) -> None:
        score = math.fsum(validation.values())
        if score > self._best_score:
            self._best_score = score
            self._best = {n: value.detach().clone() for n, value in self.net.named_parameters()}

    def _choose(self) -> None:
        if self._averaged > 1:
            self._take(self._average)
            self._keep_best(self.validate())
        if self._best:
            self._take(self._best)

    @torch.no_grad()
    def _take(self, weights: Weights) -> None:
        for name, value in self.net.named_parameters():
            value.copy_(weights[name])

    def _load(self, path: Path) -> dict[str, Any] | None:
        """Return the state to resume from: the last one, or that at the fall of the rate."""
        state = checkpoint.load(path, self._identity)
        epochs, fall = self._plan.epochs, self._plan.fall
        if state is None or epochs is None or fall is None or state["epochs"] in (None, epochs):
            return state
        if state["done"] > state["fall"]:
            state = checkpoint.load(trunk_of(path), self._identity)
        if state is None or state["done"] > fall:
            raise UsageError(
                f"checkpoint {path}: with {epochs} epochs the learning rate would have had to fall "
                "before; give more --epochs, another --checkpoint, or --overwrite to begin anew"
            )
        return state

    def _save(self, path: Path) -> None:
        plan: Plan = self._plan
        state = {
            "done": self._done,
            "epochs": plan.epochs,
            "fall": plan.fall,
            "network": self.net.state_dict(),
            "optimiser": self._stepper.state(),
            "average": self._average,
            "averaged": self._averaged,
            "best": self._best,
            "best_score": self._best_score,
        }
        checkpoint.save(path, self._identity, state)


def trunk_of(path: Path) -> Path:
    """Return the path of the state at the fall of the rate, from which training can be extended."""
    return path.with_name(f"{path.name}.trunk")
