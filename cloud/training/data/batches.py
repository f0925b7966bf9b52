"""Batches of training images: shuffled, and augmented in chunks on the images' device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cloud.training.data.augment import AUGMENTATIONS
from shared.errors import UsageError

CUDA_CHUNK = 32  # batches augmented at once on a GPU, which is slow at many small operations


@dataclass(frozen=True)
class Batching:
    """How an epoch is divided into batches; equal values and images give equal batches."""

    batch: int
    augment: str
    seed: int

    def steps(self, images: int) -> int:
        """Return the number of batches of an epoch; ``UsageError`` if there are too few images."""
        if images < self.batch:
            raise UsageError(
                f"--batch: {self.batch} is more than the {images} training images; give at most "
                f"{images}"
            )
        return images // self.batch


def batches(
    images: Tensor, labels: Tensor, plan: Batching, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches: images (B, C, H, W) float32 in 0..255 and labels (B,), on their device.

    ``images`` is (N, C, H, W) uint8, ``labels`` (N,). The order depends only on the seed, the epoch
    and the kind of device. Images that do not fill a batch are left out, others in every epoch.
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
    """Combine the training's seed and an epoch's number into the seed of the epoch."""
    return seed * 100_003 + epoch
