"""A training with its teacher, checkpoints and log."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from cloud.training.data.datasets import Dataset
from cloud.training.split.board import board
from cloud.training.split.budget import Budget
from cloud.training.split.fit import EpochReport, Fit, OnStep, trunk_of
from cloud.training.split.processor import Processor
from cloud.training.split.samples import Samples, samples_of
from cloud.training.split.settings import Settings
from cloud.training.split.teacher import Teacher, train_teacher
from cloud.training.split.widening import check_widens, take_weights
from shared.errors import UsageError
from shared.model.architecture import Architecture
from shared.networks.binarynet import BinaryNet

Say = Callable[[str], None]


def print_nothing(_: str) -> None:
    """Ignore the line: for trainings without output."""


@dataclass(frozen=True)
class Job:
    """A training: its network, data, settings, processor and files.

    checkpoint   file of the training's state; the teacher's is beside it
    log          file to which a line of JSON is appended for every epoch
    start        network whose weights the leading channels start from
    tensorboard  folder for TensorBoard
    """

    architecture: Architecture
    settings: Settings
    data: Dataset
    validation: Dataset
    processor: Processor
    checkpoint: Path | None = None
    log: Path | None = None
    start: BinaryNet | None = None
    tensorboard: Path | None = None

    def prepare(
        self, say: Say = print_nothing, seconds: float | None = None
    ) -> tuple[Fit, Teacher | None]:
        """Train the teacher, if there is to be one, and return the resumed training and the
        teacher.

        ``seconds`` limits the time of both together, and so determines the number of epochs.
        """
        began = time.monotonic()
        settings = self.settings
        if self.start is not None:
            check_widens(self.start.architecture, self.architecture)
        data, held = samples_of(self.data), samples_of(self.validation)
        settings.batching.steps(len(data.images))
        teacher = self._teacher(data, held, say) if settings.teacher_epochs else None
        torch.manual_seed(settings.seed)
        net = BinaryNet(self.architecture)
        if self.start is not None:
            take_weights(net, self.start)
        fit = Fit(
            net,
            settings,
            data,
            held,
            self._identity(),
            processor=self.processor,
            teacher=teacher,
            budget=Budget(began + seconds - time.monotonic()) if seconds else None,
        )
        if self.checkpoint and (done := fit.resume(self.checkpoint)):
            say(f"goes on after {done} epochs")
        return fit, teacher

    def run(
        self,
        fit: Fit,
        say: Say = print_nothing,
        on_step: OnStep | None = None,
        on_epoch: Callable[[EpochReport], None] | None = None,
    ) -> None:
        """Train the remaining epochs; ``say`` receives a line and ``on_epoch`` a report
        for each.
        """
        with board(self.tensorboard) as draw:

            def take(report: EpochReport) -> None:
                say(epoch_line(report))
                draw(report)
                if on_epoch:
                    on_epoch(report)
                if self.log:
                    with self.log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(report)) + "\n")

            fit.run(self.checkpoint, on_step, take)

    def remove_checkpoints(self) -> None:
        """Delete the checkpoints of earlier runs."""
        if self.checkpoint:
            for path in (self.checkpoint, trunk_of(self.checkpoint), teacher_of(self.checkpoint)):
                path.unlink(missing_ok=True)

    def _teacher(self, data: Samples, held: Samples, say: Say) -> Teacher:
        def on_epoch(done: int, share: float, seconds: float) -> None:
            epochs = self.settings.teacher_epochs
            say(f"teacher {done}/{epochs}: held out {100 * share:.2f}, {seconds:.1f} s")

        return train_teacher(
            data,
            held,
            len(self.data.classes),
            self.settings,
            self._identity(),
            processor=self.processor,
            path=teacher_of(self.checkpoint) if self.checkpoint else None,
            on_epoch=on_epoch,
        )

    def _identity(self) -> dict[str, object]:
        start = None if self.start is None else weights_digest(self.start)
        return {"data": self.data.digest, "images": len(self.data.images), "from": start}


def weights_digest(net: BinaryNet) -> str:
    """Return the SHA-256, in hex, of all weights."""
    digest = hashlib.sha256()
    for parameter in net.parameters():
        digest.update(parameter.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def epoch_line(report: EpochReport) -> str:
    """Format the report of an epoch as a line."""
    shown = " ".join(f"({at}) {100 * share:.2f}" for at, share in report.validation.items())
    return (
        f"epoch {report.epoch}/{report.epochs or '?'}: loss {report.loss:.4f}, "
        f"{100 * report.accuracy:.2f} %, held out {shown}, {report.seconds:.1f} s"
    )


def teacher_of(path: Path) -> Path:
    """Return the path of the teacher of the training at ``path``."""
    return path.with_name(f"{path.name}.teacher")


def check_output(path: Path, flag: str) -> None:
    """Raise ``UsageError``, before a long training, if no file can be written at ``path``."""
    if path.is_dir():
        raise UsageError(f"{flag}: {path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UsageError(f"{flag}: the folder {path.parent} is not there; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{flag}: the folder {path.parent} cannot be written to")
