"""Statistics of a trained network's norms, measured over training images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cloud.training.data.datasets import Dataset
from cloud.training.split.settings import Settings
from shared.networks.binarynet import BinaryNet

# Every pixel counts in the statistics of a map, so larger pictures need fewer; but pixels of one
# picture are alike, so there is a least number too.
MOST_IMAGES, LEAST_IMAGES = 8_192, 2_048
ENOUGH_PIXELS = MOST_IMAGES * 32 * 32


def calibrate(
    net: BinaryNet,
    data: Dataset,
    settings: Settings,
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """Measure what ``net`` needs for every pair of levels, on the CPU, and leave it there.

    The images are ``settings.calibration_images`` of ``data``, or ``enough_images``, chosen by the
    seed. ``on_step`` is told (steps done, steps in all).
    """
    order = np.random.default_rng(settings.seed).permutation(len(data.images))
    _, height, width, _ = data.images.shape
    count = settings.calibration_images or enough_images(height, width)
    chosen = data.images[np.sort(order[:count])] if len(order) > count else data.images
    net.to("cpu").eval()
    # (N, H, W, C) -> (N, C, H, W)
    net.calibrate(torch.from_numpy(chosen).permute(0, 3, 1, 2), on_step)


def enough_images(height: int, width: int) -> int:
    """How many images of this size are enough to measure on: 8,192 of 32x32, fewer larger ones."""
    return min(max(ENOUGH_PIXELS // (height * width), LEAST_IMAGES), MOST_IMAGES)
