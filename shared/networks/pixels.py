"""The check that a network gets pixels, 0 to 255, and not what others scale them to."""

from __future__ import annotations

import torch
from torch import Tensor


def check_pixels(images: Tensor) -> None:
    """Raise ``ValueError`` for images in 0..1 or around 0: answers to them would be chance.

    Whole numbers pass, a black image too. Left out where it would cost more than it tells: in
    graphs that are captured, and in training on a GPU, which would have to wait for it.
    """
    if torch.compiler.is_compiling() or not images.is_floating_point() or not images.numel():
        return
    if images.is_cuda and torch.is_grad_enabled():
        return
    low, high = (float(value) for value in torch.aminmax(images.detach()))
    scaled = high <= 1 and bool((images != images.round()).any())
    if low < 0 or scaled:
        raise ValueError(
            f"images: have values from {low:g} to {high:g}; networks take pixels as they are, 0 to "
            "255, and scale them themselves"
        )
