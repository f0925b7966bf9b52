"""Random changes to training images, in torch: (B, C, H, W) in 0..255 -> the same shape.

Random numbers are drawn on the images' device, to which the generator must belong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Augment = Callable[[Tensor, Generator], Tensor]


def none(images: Tensor, generator: Generator) -> Tensor:  # noqa: ARG001
    """Return the images unchanged."""
    return images


def shift(images: Tensor, generator: Generator, reach: int = 2) -> Tensor:
    """Move every image by up to ``reach`` pixels in each direction, filling with 0."""
    batch, _, height, width = images.shape
    place = images.device
    padded = F.pad(images, (reach,) * 4)
    offsets = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator, device=place)
    rows = offsets[0].view(-1, 1) + torch.arange(height, device=place)  # (B, H)
    columns = offsets[1].view(-1, 1) + torch.arange(width, device=place)  # (B, W)
    index = torch.arange(batch, device=place).view(-1, 1, 1)
    # Advanced indices around a slice put their axes first: (B, H, W, C) -> (B, C, H, W)
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def affine(images: Tensor, generator: Generator) -> Tensor:
    """Rotate by up to 8 degrees, scale by up to 8 percent, move by up to 1.5 pixels."""
    batch, _, height, width = images.shape
    place = images.device
    drawn = torch.rand(4, batch, generator=generator, device=place)
    turn, zoom, down, right = (2 * drawn - 1).unbind()
    angle = turn * (8 * torch.pi / 180)
    scale = 1 + 0.08 * zoom
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    # Coordinates run from -1 to 1 over the image.
    rows = torch.stack([cosine, -sine, right * (3 / width)], dim=1)  # (B, 3)
    columns = torch.stack([sine, cosine, down * (3 / height)], dim=1)  # (B, 3)
    matrix = torch.stack([rows, columns], dim=1)  # (B, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).round()


def flip_and_shift(images: Tensor, generator: Generator, reach: int = 4) -> Tensor:
    """Mirror a random half of the images left to right, then ``shift`` by up to ``reach``."""
    drawn = torch.rand(len(images), generator=generator, device=images.device)
    mirrored = (drawn < 0.5).view(-1, 1, 1, 1)
    return shift(torch.where(mirrored, images.flip(3), images), generator, reach)


def cutout(images: Tensor, generator: Generator, side: int = 8) -> Tensor:
    """Apply ``flip_and_shift``, then cover a random square of each image with mid-grey.

    Source: DeVries and Taylor, "Improved Regularization of CNNs with Cutout" (arXiv 1708.04552).
    """
    images = flip_and_shift(images, generator)
    batch, _, height, width = images.shape
    place = images.device
    centre = torch.rand(2, batch, 1, generator=generator, device=place)
    rows = (torch.arange(height, device=place) - centre[0] * height).abs() <= side / 2  # (B, H)
    columns = (torch.arange(width, device=place) - centre[1] * width).abs() <= side / 2  # (B, W)
    covered = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, H, W)
    return images.masked_fill(covered, 127.0)


AUGMENTATIONS: dict[str, Augment] = {
    "none": none,
    "shift": shift,
    "affine": affine,
    "flip-and-nudge": partial(flip_and_shift, reach=2),
    "flip-and-shift": flip_and_shift,
    "cutout": cutout,
}
