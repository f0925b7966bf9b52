"""The training loop of split binary networks: the sandwich rule over both fractions.

Every step trains the widest pair of levels on the labels, and the narrowest and random pairs on
what the widest one answers (inplace distillation). Source: Yu and Huang, "Universally Slimmable
Networks" (arXiv 1903.05134), here over a grid of two fractions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cloud.training.data.batches import Settings, batches
from cloud.training.split.teacher import Teacher
from shared.errors import UsageError
from shared.model.architecture import Architecture
from shared.networks.binarynet import BinaryNet

Pairs = list[tuple[int, list[int]]]


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did: mean loss of the widest pair, share of right answers, seconds."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float


def draw_pairs(architecture: Architecture, settings: Settings, generator: random.Random) -> Pairs:
    """The level pairs of one step, grouped by device level; the widest pair comes first."""
    top = len(architecture.device_levels) - 1
    widest = len(architecture.cloud_levels) - 1
    wanted = [(top, widest), (0, 0)]
    if settings.pairs == "grid":
        wanted.append((top, generator.randrange(widest)))
    for _ in range(settings.random_pairs):
        if settings.pairs == "grid":
            level = generator.randrange(top)
            wanted += [(level, generator.randrange(widest)), (level, widest)]
        else:
            wanted.append((generator.randrange(top + 1), generator.randrange(widest + 1)))
    grouped: dict[int, list[int]] = {}
    for level, cloud_level in wanted:
        if cloud_level not in grouped.setdefault(level, []):
            grouped[level].append(cloud_level)
    return list(grouped.items())


def step_loss(
    net: BinaryNet,
    images: Tensor,
    labels: Tensor,
    pairs: Pairs,
    widest_weight: float,
    target: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted loss over ``pairs``, loss of the widest pair, logits of the widest pair.

    images (B, C, H, W) in 0..255, labels (B,); ``target`` (B, classes) is what a teacher says:
    without one, the widest pair teaches the others.
    """
    total = torch.zeros(())
    lesson = torch.empty(0) if target is None else target
    widest_loss, widest_logits = total, torch.empty(0)
    sums = net.image_sums(images)
    for level, cloud_levels in pairs:
        bits = net.device_trace(sums, level)[-1]
        exits = [net.forward_exit(bits, level)] if net.exit is not None else []
        outputs = [net.forward_cloud(bits, level, c) for c in cloud_levels]
        if not widest_logits.numel():
            widest_logits = outputs.pop(0).float()
            widest_loss = F.cross_entropy(widest_logits, labels)
            total = total + widest_weight * widest_loss
            if target is None:
                lesson = F.softmax(widest_logits.detach(), dim=1)
            else:
                total = total + widest_weight * F.cross_entropy(widest_logits, target)
        for logits in (*outputs, *exits):
            total = total + F.cross_entropy(logits.float(), lesson)
    return total, widest_loss.detach(), widest_logits.detach()


@torch.no_grad()
def soft_labels(teacher: Teacher, images: Tensor) -> Tensor:
    """What the teacher says: (B, C, H, W) in 0..255 -> probabilities (B, classes)."""
    return F.softmax(teacher(images).float(), dim=1)


def fit(
    net: BinaryNet,
    images: Tensor,
    labels: Tensor,
    settings: Settings,
    checkpoint: Path | None = None,
    teacher: Teacher | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> None:
    """Train ``net`` in place and calibrate it.

    images (N, C, H, W) uint8, labels (N,) int64. With ``checkpoint`` the state is saved after every
    epoch, and a run whose checkpoint exists goes on from there; ``UsageError`` if that checkpoint
    belongs to another network or other settings.
    """
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    steps = len(images) // settings.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        settings.learning_rate,
        total_steps=max(settings.epochs * steps, 1),
        pct_start=settings.warm_up,
    )
    first = _resume(checkpoint, net, optimiser, schedule, settings) if checkpoint else 0
    for epoch in range(first, settings.epochs):
        started = time.monotonic()
        generator = random.Random(settings.seed * 100_003 + epoch)  # noqa: S311 - training
        losses, right, seen = 0.0, 0, 0
        net.train()
        for step, (x, y) in enumerate(batches(images, labels, settings, epoch)):
            pairs = draw_pairs(net.architecture, settings, generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
                target = None if teacher is None else soft_labels(teacher, x)
                loss, widest, logits = step_loss(net, x, y, pairs, settings.widest_weight, target)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            net.clip_latent_weights()
            losses += float(widest) * len(y)
            right += int((logits.argmax(1) == y).sum())
            seen += len(y)
            if on_step:
                on_step(epoch * steps + step + 1, settings.epochs * steps)
        seconds = time.monotonic() - started
        if on_epoch:
            on_epoch(EpochReport(epoch + 1, losses / max(seen, 1), right / max(seen, 1), seconds))
        if checkpoint:
            _save(checkpoint, net, optimiser, schedule, settings, epoch + 1)
    net.eval()
    chosen = np.random.default_rng(settings.seed).permutation(len(images))
    net.calibrate(images[torch.from_numpy(chosen[: settings.calibration_images])].float())


def _save(
    path: Path,
    net: BinaryNet,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: Settings,
    epoch: int,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "identity": _identity(net, settings),
            "epoch": epoch,
            "network": net.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
        },
        temporary,
    )
    temporary.replace(path)


def _resume(
    path: Path,
    net: BinaryNet,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: Settings,
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, value in _identity(net, settings).items():
        if state["identity"].get(name) != value:
            raise UsageError(
                f"checkpoint {path}: its {name} is {state['identity'].get(name)!r}, not {value!r}; "
                "remove it or train with its settings"
            )
    net.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epoch"])


def _identity(net: BinaryNet, settings: Settings) -> dict[str, Any]:
    return {**asdict(settings), "architecture": repr(net.architecture)}
