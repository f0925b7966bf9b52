"""Float classifiers of the images that a rival's cloud decodes; trained once, kept outside of git.

A small VGG (Simonyan and Zisserman, 2015): three 3x3 convolutions with batch norm, two poolings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassifierSettings:
    """How a classifier is trained; images are moved at random by up to ``shift`` pixels."""

    epochs: int
    widths: tuple[int, int, int]
    shift: int
    mirror: bool
    batch: int = 128
    learning_rate: float = 0.004
    seed: int = 1


def make_classifier(channels: int, classes: int, widths: tuple[int, int, int]) -> nn.Module:
    """Make a network (N, C, H, W) -> logits (N, classes)."""
    layers: list[nn.Module] = []
    inputs = channels
    for width, pool in zip(widths, (True, True, False), strict=True):
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU()] + ([nn.MaxPool2d(2)] if pool else [])
        inputs = width
    layers += [
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(4 * inputs, classes),
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def to_input(images: Images) -> Tensor:
    """Convert images: (N, H, W, C) uint8 -> (N, C, H, W) float, centred."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def augmented(batch: Tensor, settings: ClassifierSettings) -> Tensor:
    """Return ``batch`` moved by up to ``shift`` pixels, and mirrored half of the time."""
    if settings.mirror and torch.rand(()) < 0.5:
        batch = batch.flip(3)
    if settings.shift:
        down, right = torch.randint(-settings.shift, settings.shift + 1, (2,)).tolist()
        batch = batch.roll((down, right), (2, 3))
    return batch


def accuracy_of(
    name: str,
    train: tuple[Images, Labels],
    test: tuple[Images, Labels],
    settings: ClassifierSettings,
    checkpoint: Path,
    say: Callable[[str], None] = print,
) -> float:
    """Train a classifier on ``train`` and return the share of ``test`` that it gets right.

    Its state after every epoch is kept in ``checkpoint``, from which an interrupted training goes
    on.
    """
    torch.manual_seed(settings.seed)
    images, labels = train[0], torch.from_numpy(train[1])
    classes = int(train[1].max()) + 1
    network = make_classifier(images.shape[-1], classes, settings.widths)
    optimiser = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=0.01)
    batches = len(images) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, settings.epochs * batches
    )
    done = 0
    parts: dict[str, Any] = {"network": network, "optimiser": optimiser, "schedule": schedule}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        done = state.pop("epochs")
        for key, part in parts.items():
            part.load_state_dict(state[key])
    for epoch in range(done, settings.epochs):
        network.train()
        order = torch.randperm(len(images)).numpy()
        total = 0.0
        for start in range(0, batches * settings.batch, settings.batch):
            at = order[start : start + settings.batch]
            logits = network(augmented(to_input(images[at]), settings))
            loss = F.cross_entropy(logits, labels[at], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = checkpoint.with_suffix(".tmp")
        states = {key: part.state_dict() for key, part in parts.items()}
        torch.save({"epochs": epoch + 1, **states}, temporary)
        temporary.replace(checkpoint)
        say(f"{name}: epoch {epoch + 1}/{settings.epochs}, loss {total / batches:.4f}")
    return share_right(network, *test)


@torch.no_grad()
def share_right(network: nn.Module, images: Images, labels: Labels) -> float:
    """Return the share of images whose largest logit is that of their label."""
    network.eval()
    right = 0
    for start in range(0, len(images), 500):
        logits = network(to_input(images[start : start + 500]))
        right += int((logits.argmax(1).numpy() == labels[start : start + 500]).sum())
    return right / len(images)
