"""Measure the accuracy of a network during training on held-out images."""

from __future__ import annotations

import torch
from torch import Tensor

from cloud.training.low_precision import has_bfloat16
from cloud.training.split.training_pass import TrainingPass
from shared.fractions import level_for
from shared.networks.binarynet import BinaryNet

BATCH = 1000
WATCHED = ((0.125, 0.25), (0.3, 1.0), (1.0, 1.0))  # device and cloud fractions


@torch.no_grad()
def validate(net: BinaryNet, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the accuracy at ``WATCHED`` levels on images (N, C, H, W) uint8, labels (N,).

    Norms use statistics of batches of up to ``BATCH`` of these images, so that no calibration is
    needed; results are close to those of the calibrated network. Empty without images.
    """
    architecture = net.architecture
    pairs = {
        (level_for(d, architecture.device_levels), level_for(c, architecture.cloud_levels))
        for d, c in WATCHED
    }
    right = {pair: torch.zeros((), device=images.device) for pair in pairs}
    count = -(-len(images) // BATCH)
    dtype = torch.bfloat16 if has_bfloat16(images.device) else torch.float32
    for part in range(count):
        # Every count-th image: consecutive images could be of one class and give biased statistics.
        x, y = images[part::count], labels[part::count]
        run = TrainingPass(net, x, dtype, aligned=images.is_cuda)
        for level, cloud_level in pairs:
            logits = run.cloud(run.device(level), level, cloud_level)
            right[level, cloud_level] += (logits.argmax(1) == y).sum()
    return {
        f"{architecture.device_levels[level]:g},{architecture.cloud_levels[cloud_level]:g}": (
            float(right[level, cloud_level]) / len(labels)
        )
        for level, cloud_level in sorted(pairs)
        if len(labels)
    }
