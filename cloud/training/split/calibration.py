"""Statistics of a trained network's norms, measured over training images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cloud.training.data.datasets import Dataset
from cloud.training.split.settings import Settings
from shared.networks.binarynet import BinaryNet


def calibrate(
    net: BinaryNet,
    data: Dataset,
    settings: Settings,
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """Measure what ``net`` needs for every pair of levels, on the CPU, and leave it there.

    The images are ``settings.calibration_images`` of ``data``, chosen by the seed. ``on_step`` is
    told (steps done, steps in all).
    """
    order = np.random.default_rng(settings.seed).permutation(len(data.images))
    few = len(order) > settings.calibration_images
    chosen = data.images[np.sort(order[: settings.calibration_images])] if few else data.images
    net.to("cpu").eval()
    # (N, H, W, C) -> (N, C, H, W)
    net.calibrate(torch.from_numpy(chosen).permute(0, 3, 1, 2), on_step)
