"""The training loop of split binary networks: epochs, validation, checkpoints, the average.

A step trains the widest pair of levels and others, all of which learn from a float teacher where
there is one, else from the widest pair (inplace distillation). Source: Yu and Huang, "Universally
Slimmable Networks" (arXiv 1903.05134), here over a grid of two fractions.
"""

from __future__ import annotations

import copy
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

SAVE_SECONDS = 20  # a kill loses no more than these and an epoch
OnStep = Callable[[int, int | None], None]  # steps done, of how many if that is known


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did: mean loss and share of right answers of the widest pair, seconds.

    ``epochs`` is None as long as nobody knows how many there will be; ``validation`` says for
    "d,c" which share of the held-out images is answered right, with statistics of their batch.
    """

    epoch: int
    epochs: int | None
    rate: float
    loss: float
    accuracy: float
    validation: dict[str, float]
    seconds: float


class Fit:
    """A training of ``net``, in place.

    ``identity`` says what is trained on what; a checkpoint of anything else is refused.
    ``budget``: how many epochs there are is decided on the way, so that time suffices.
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
        self._average: dict[str, Tensor] = {}
        self._averaged = 0

    @property
    def done(self) -> int:
        """Epochs trained so far."""
        return self._done

    def resume(self, path: Path) -> int:
        """Go on from the checkpoint at ``path``, if it is there; gives the epochs done.

        A finished training goes on from where its rate began to fall, if more epochs are asked
        for. ``UsageError``: the file is no checkpoint, or another run's, or has too many epochs.
        """
        state = checkpoint.load(path, self._identity)
        if state is None:
            return 0
        wanted = self._plan
        if state["epochs"] not in (None, wanted.epochs) and state["done"] > state["fall"]:
            if wanted.epochs is not None and wanted.fall is not None:
                state = checkpoint.load(trunk_of(path), self._identity)
            if state is None or wanted.fall is None or state["done"] > wanted.fall:
                raise UsageError(
                    f"checkpoint {path}: its learning rate has begun to fall, and {wanted.epochs} "
                    "epochs are too few to go on before that; give more --epochs, another "
                    "--checkpoint or --overwrite"
                )
        if wanted.epochs is None:
            self._plan = replace(wanted, epochs=state["epochs"])
        self.net.load_state_dict(state["network"])
        self._stepper.load(state["optimiser"])
        self._done, self._averaged = state["done"], state["averaged"]
        self._average = {
            name: value.to(self._processor.device) for name, value in state["average"].items()
        }
        return self._done

    def run(
        self,
        path: Path | None = None,
        on_step: OnStep | None = None,
        on_epoch: Callable[[EpochReport], None] | None = None,
    ) -> None:
        """Train what is missing; the better of the last and the averaged weights remain.

        The state is kept at ``path`` after every epoch, of short ones after some, and beside it
        when the rate begins to fall.
        """
        saved = time.monotonic()
        while not self._finished():
            began = time.monotonic()
            loss, accuracy = self._epoch(on_step)
            self._done += 1
            self._add_to_average()
            report = EpochReport(
                self._done,
                self._plan.epochs,
                self._settings.learning_rate * self._plan.share(self._done),
                loss,
                accuracy,
                self.validate(),
                time.monotonic() - began,
            )
            if on_epoch:
                on_epoch(report)
            if path and self._done == self._plan.fall:
                self._save(trunk_of(path))
            if path and time.monotonic() - saved > SAVE_SECONDS:
                self._save(path)
                saved = time.monotonic()
            if self._budget:
                self._budget.spent(report.seconds, falling=self._plan.falling(self._done - 1))
        if path:
            self._save(path)
        self._choose()

    def validate(self) -> dict[str, float]:
        """Share of held-out images that the network answers right now, at several "d,c"."""
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

    @torch.no_grad()
    def _choose(self) -> None:
        """Keep the weights, last or averaged, that answer more held-out images right."""
        if self._averaged < 2:
            return
        other = copy.deepcopy(self.net)
        for name, value in other.named_parameters():
            value.copy_(self._average[name])
        scores = [
            math.fsum(validate(net, self._held.images, self._held.labels).values())
            for net in (self.net, other)
        ]
        if scores[1] > scores[0]:
            self.net.load_state_dict(other.state_dict())

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
        }
        checkpoint.save(path, self._identity, state)


def trunk_of(path: Path) -> Path:
    """Where the state is kept from which a training can be extended."""
    return path.with_name(f"{path.name}.trunk")
