"""Batches of training images: shuffled and augmented where the images are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cloud.training.data.augment import AUGMENTATIONS


@dataclass(frozen=True)
class Batching:
    """How an epoch is cut into batches; the same values and images give the same batches."""

    batch: int
    augment: str
    seed: int


def batches(
    images: Tensor, labels: Tensor, plan: Batching, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, C, H, W) float32 in 0..255 and labels (B,), where ``images`` are."""
    generator = torch.Generator(images.device).manual_seed(mix(plan.seed, epoch))
    order = torch.randperm(len(images), generator=generator, device=images.device)
    augment = AUGMENTATIONS[plan.augment]
    for start in range(0, len(order) - plan.batch + 1, plan.batch):
        chosen = order[start : start + plan.batch]
        x = augment(images[chosen].float(), generator)
        yield x.to(memory_format=torch.channels_last), labels[chosen]


def mix(seed: int, epoch: int) -> int:
    """The seed of an epoch's random numbers."""
    return seed * 100_003 + epoch
