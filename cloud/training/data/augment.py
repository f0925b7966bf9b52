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


def affine(images: Tensor, generator: Generator) -> Tensor:
    """Turn by up to 8 degrees, scale by up to 8 percent, move by up to 1.5 pixels."""
    batch, _, height, width = images.shape
    turn, zoom, down, right = (2 * torch.rand(4, batch, generator=generator) - 1).unbind()
    angle = turn * (8 * torch.pi / 180)
    scale = 1 + 0.08 * zoom
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    # Coordinates run from -1 to 1 over the image.
    rows = torch.stack([cosine, -sine, right * (3 / width)], dim=1)  # (B, 3)
    columns = torch.stack([sine, cosine, down * (3 / height)], dim=1)  # (B, 3)
    matrix = torch.stack([rows, columns], dim=1)  # (B, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).round()


def flip_and_shift(images: Tensor, generator: Generator) -> Tensor:
    """Mirror half of the images left to right, then ``shift`` by up to 4 pixels."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    return shift(images, generator, reach=4)


AUGMENTATIONS: dict[str, Augment] = {
    "none": none,
    "shift": shift,
    "affine": affine,
    "flip-and-shift": flip_and_shift,
}
