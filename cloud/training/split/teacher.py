"""The float network that binary networks learn from (knowledge distillation).

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud.training.data.batches import Settings, batches
from shared.errors import UsageError

LEARNING_RATE = 0.004
WIDTHS = (32, 64, 128)  # channels before each pooling


class Teacher(nn.Module):
    """Pairs of 3x3 convolutions with batch norm, each pair pooled, then a linear classifier.

    ``forward(images)``: images (B, C, H, W) in 0..255 -> logits (B, classes).
    """

    def __init__(self, colours: int, classes: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = colours
        for width in widths:
            for _ in range(2):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.classify = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * before, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images with values 0 to 255."""
        logits: Tensor = self.classify(self.features(images / 127.5 - 1))
        return logits


def train_teacher(
    images: Tensor,
    labels: Tensor,
    classes: int,
    settings: Settings,
    checkpoint: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Teacher:
    """A teacher trained for ``settings.teacher_epochs`` epochs, or read from its checkpoint.

    images (N, C, H, W) uint8, labels (N,). The checkpoint is written when training is done.
    """
    torch.manual_seed(settings.seed)
    teacher = Teacher(images.shape[1], classes)
    teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = [settings.seed, settings.teacher_epochs, settings.augment, list(images.shape)]
    if checkpoint and checkpoint.exists():
        _load(teacher, checkpoint, identity)
        teacher.eval()
        return teacher
    optimiser = torch.optim.AdamW(teacher.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    plan = replace(settings, epochs=settings.teacher_epochs)
    total = plan.epochs * (len(images) // plan.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=total)
    done = 0
    for epoch in range(plan.epochs):
        for x, y in batches(images, labels, plan, epoch):
            with torch.autocast("cpu", torch.bfloat16, enabled=plan.bfloat16):
                loss = F.cross_entropy(teacher(x).float(), y, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            done += 1
            if on_step:
                on_step(done, total)
    if checkpoint:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = checkpoint.with_suffix(".tmp")
        torch.save({"identity": identity, "network": teacher.state_dict()}, temporary)
        temporary.replace(checkpoint)
    teacher.eval()
    return teacher


def _load(teacher: Teacher, checkpoint: Path, identity: list[Any]) -> None:
    state = torch.load(checkpoint, weights_only=True)
    if state["identity"] != identity:
        raise UsageError(
            f"checkpoint {checkpoint}: was made with {state['identity']}, not {identity}; remove it"
        )
    teacher.load_state_dict(state["network"])
