"""Random changes to training images, in torch: (B, C, H, W) in 0..255 -> the same shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Augment = Callable[[Tensor, Generator], Tensor]


def none(images: Tensor, generator: Generator) -> Tensor:  # noqa: ARG001
    """The images as they are."""
    return images


def shift(images: Tensor, generator: Generator, reach: int = 2) -> Tensor:
    """Move every image by up to ``reach`` pixels each way; what comes in from outside is 0."""
    batch, _, height, width = images.shape
    padded = F.pad(images, (reach,) * 4)
    offsets = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator)
    rows = offsets[0].view(-1, 1) + torch.arange(height)  # (B, H)
    columns = offsets[1].view(-1, 1) + torch.arange(width)  # (B, W)
    index = torch.arange(batch).view(-1, 1, 1)
    # advanced indices around a slice put their axes first: (B, H, W, C) -> (B, C, H, W)
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip_and_shift(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the images left to right, then ``shift`` by up to 4 pixels."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    return shift(images, generator, reach=4)


AUGMENTATIONS: dict[str, Augment] = {
    "none": none,
    "shift": shift,
    "flip-and-shift": flip_and_shift,
}
