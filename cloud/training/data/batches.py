"""Batches of training images: shuffled, augmented where the images are, in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cloud.training.data.augment import AUGMENTATIONS
from shared.errors import UsageError

CUDA_CHUNK = 32  # batches that one augmentation makes: a GPU is slow at many small things


@dataclass(frozen=True)
class Batching:
    """How an epoch is cut into batches; the same values and images give the same batches."""

    batch: int
    augment: str
    seed: int

    def steps(self, images: int) -> int:
        """Batches of an epoch; ``UsageError`` if there are fewer ``images`` than one takes."""
        if images < self.batch:
            raise UsageError(
                f"--batch: {self.batch} is more than the {images} training images; give at most "
                f"{images}"
            )
        return images // self.batch


def batches(
    images: Tensor, labels: Tensor, plan: Batching, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, C, H, W) float32 in 0..255 and labels (B,), where ``images`` are.

    images (N, C, H, W) uint8, labels (N,). The order depends only on the seed, the epoch and the
    kind of device. What is left over after whole batches is another in every epoch.
    """
    generator = torch.Generator(images.device).manual_seed(mix(plan.seed, epoch))
    order = torch.randperm(len(images), generator=generator, device=images.device)
    order = order[: plan.steps(len(images)) * plan.batch]
    augment = AUGMENTATIONS[plan.augment]
    for chosen in torch.split(order, plan.batch * (CUDA_CHUNK if images.is_cuda else 1)):
        x = augment(images[chosen].float(), generator)
        x = x.contiguous(memory_format=torch.channels_last)
        parts = (torch.split(whole, plan.batch) for whole in (x, labels[chosen]))
        yield from zip(*parts, strict=True)


def mix(seed: int, epoch: int) -> int:
    """The seed of an epoch's random numbers."""
    return seed * 100_003 + epoch
