"""The size of training images over a training: small images first, since they cost less.

Source: progressive learning of Tan and Le, "EfficientNetV2" (arXiv 2104.00298), here in steps of
whole epochs and without its increasing regularisation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from shared.errors import UsageError

Resolution = Callable[[int, int], float]  # (epoch, epochs) -> share of the side


def full(epoch: int, epochs: int) -> float:  # noqa: ARG001
    """Return full size throughout."""
    return 1.0


def growing(epoch: int, epochs: int) -> float:
    """Return half the side for 40% of the epochs, three quarters for 40%, then the full side."""
    progress = epoch / epochs
    if progress < 0.4:
        return 0.5
    return 0.75 if progress < 0.8 else 1.0


RESOLUTIONS: dict[str, Resolution] = {"full": full, "growing": growing}


def resolution(name: str) -> Resolution:
    """Return the schedule of that name; ``UsageError`` lists the known ones."""
    if name not in RESOLUTIONS:
        raise UsageError(f"--resolution: {name!r} is unknown; known: {', '.join(RESOLUTIONS)}")
    return RESOLUTIONS[name]


def resize(images: Tensor, share: float) -> Tensor:
    """Scale images (B, C, H, W) to ``share`` of both sides, with antialiasing."""
    if share == 1.0:
        return images
    sides = [max(1, round(share * side)) for side in images.shape[2:]]
    return F.interpolate(images, sides, mode="bilinear", antialias=True)
