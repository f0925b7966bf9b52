"""The float network that binary networks learn from by knowledge distillation.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud.training import checkpoint
from cloud.training.data.batches import batches
from cloud.training.low_precision import low_precision
from cloud.training.split.processor import CPU, Processor
from cloud.training.split.samples import Samples
from cloud.training.split.settings import Settings

RATE_OF_128 = 0.05  # highest learning rate for batches of 128; proportional for other sizes
WARM_UP = 0.2  # share of the steps in which the rate rises
WEIGHT_DECAY = 5e-4
SMOOTHING = 0.05  # label smoothing
VALIDATION_BATCH = 1000


class Residual(nn.Module):
    """A residual block: x + f(x), where f is two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolution(width, width), *convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        return x + self.body(x)  # type: ignore[no-any-return]


class Teacher(nn.Module):
    """ResNet-9: seven convolutions, some in two residual blocks, three poolings, a classifier.

    ``forward(images)``: images (B, C, H, W) in 0..255 -> logits (B, classes). Source: Page, "How to
    Train Your ResNet" (myrtle.ai, 2018).
    """

    def __init__(self, colours: int, classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *convolution(colours, width),
            *convolution(width, 2 * width, pool=2),
            Residual(2 * width),
            *convolution(2 * width, 4 * width, pool=2),
            *convolution(4 * width, 8 * width, pool=2),
            Residual(8 * width),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.classify = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, classes) of images (B, C, H, W) in 0..255."""
        # The classifier's inputs are large, as they are maxima; scaled down, answers start soft.
        logits: Tensor = self.classify(self.features(images / 127.5 - 1)) * 0.125
        return logits

    @torch.no_grad()
    def answer(self, images: Tensor) -> Tensor:
        """Compute logits (B, classes) in float32, with convolutions in bfloat16 if that is faster.

        The teacher must be in evaluation mode.
        """
        with low_precision(images.device):
            return self(images).float()  # type: ignore[no-any-return]


def convolution(before: int, width: int, pool: int = 1) -> list[nn.Module]:
    """Return a 3x3 convolution, max pooling over ``pool`` x ``pool`` pixels, batch norm, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(before, width, 3, padding=1, bias=False)]
    layers += [nn.MaxPool2d(pool)] if pool > 1 else []
    return [*layers, nn.BatchNorm2d(width), nn.ReLU()]


def train_teacher(
    data: Samples,
    held: Samples,
    classes: int,
    settings: Settings,
    identity: dict[str, Any],
    *,
    processor: Processor = CPU,
    path: Path | None = None,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> Teacher:
    """Train a teacher for ``settings.teacher_epochs`` epochs; ``path`` is its checkpoint.

    ``on_epoch`` receives (epochs done, accuracy on ``held``, seconds).
    """
    torch.manual_seed(settings.seed)
    teacher = Teacher(data.images.shape[1], classes, settings.teacher_width)
    teacher.to(processor.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(
        teacher.parameters(), lr=0.0, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    identity = {
        **identity,
        **{
            name: getattr(settings, name)
            for name in ("batch", "seed", "teacher_epochs", "teacher_width", "teacher_augment")
        },
    }
    state = checkpoint.load(path, identity) if path else None
    if state is not None:
        teacher.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
    data, held = data.to(processor.device), held.to(processor.device)
    steps = settings.teacher_batching.steps(len(data.images))
    for epoch in range(state["done"] if state else 0, settings.teacher_epochs):
        began = time.monotonic()
        teacher.train()
        for step, (x, y) in enumerate(
            batches(data.images, data.labels, settings.teacher_batching, epoch)
        ):
            progress = (epoch + step / steps) / settings.teacher_epochs
            for group in optimiser.param_groups:
                group["lr"] = RATE_OF_128 * settings.batch / 128 * one_cycle(progress)
            with low_precision(processor.device):
                loss = F.cross_entropy(teacher(x).float(), y, label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        share = share_right(teacher, held)
        if path:
            kept = {"network": teacher.state_dict(), "optimiser": optimiser.state_dict()}
            checkpoint.save(path, identity, {**kept, "done": epoch + 1})
        if on_epoch:
            on_epoch(epoch + 1, share, time.monotonic() - began)
    return teacher.eval()


def one_cycle(progress: float) -> float:
    """Rise linearly, fall along half a cosine: share of the training -> share of the rate."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def share_right(teacher: Teacher, held: Samples) -> float:
    """Return the accuracy on ``held``; 0 without images."""
    teacher.eval()
    right = torch.zeros((), device=held.images.device)
    parts = (torch.split(whole, VALIDATION_BATCH) for whole in (held.images, held.labels))
    for x, y in zip(*parts, strict=True):
        right += (teacher.answer(x.float()).argmax(1) == y).sum()
    return float(right) / max(len(held.labels), 1)
