"""Measure the statistics of a trained network's norms over training images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cloud.training.data.datasets import Dataset
from cloud.training.split.settings import Settings
from shared.networks.binarynet import BinaryNet

# Statistics of a map are over pixels, so larger pictures need fewer images. But pixels of one
# picture are similar, so there is a minimum.
MOST_IMAGES, LEAST_IMAGES = 8_192, 2_048
ENOUGH_PIXELS = MOST_IMAGES * 32 * 32


def calibrate(
    net: BinaryNet,
    data: Dataset,
    settings: Settings,
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """Measure the statistics of ``net`` for every pair of levels; moves it to the CPU.

    Uses ``settings.calibration_images`` images of ``data``, or ``enough_images`` if that is 0,
    chosen by the seed. ``on_step`` receives (steps done, all steps).
    """
    order = np.random.default_rng(settings.seed).permutation(len(data.images))
    _, height, width, _ = data.images.shape
    count = settings.calibration_images or enough_images(height, width)
    chosen = data.images[np.sort(order[:count])] if len(order) > count else data.images
    net.to("cpu").eval()
    # (N, H, W, C) -> (N, C, H, W)
    net.calibrate(torch.from_numpy(chosen).permute(0, 3, 1, 2), on_step)


def enough_images(height: int, width: int) -> int:
    """Return how many images of this size suffice for statistics: 8,192 of 32x32, fewer
    if larger.
    """
    return min(max(ENOUGH_PIXELS // (height * width), LEAST_IMAGES), MOST_IMAGES)
