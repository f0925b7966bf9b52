"""Check that a network gets pixels from 0 to 255, not normalised ones."""

from __future__ import annotations

import torch
from torch import Tensor


def check_pixels(images: Tensor) -> None:
    """Raise ``ValueError`` for images in 0..1 or around 0, whose answers would be random.

    Integers, also of a black image, pass. The check is skipped in captured graphs and in training
    on a GPU, where it would force a synchronisation.
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
