"""Images and labels as tensors on the training's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cloud.training.data.datasets import Dataset


@dataclass(frozen=True)
class Samples:
    """Images (N, C, H, W) uint8 and labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Samples:
        """Return a copy on another device, with images in the memory format channels last."""
        images = self.images.to(device).contiguous(memory_format=torch.channels_last)
        return Samples(images, self.labels.to(device))


def samples_of(data: Dataset) -> Samples:
    """Return a split of a data set as tensors that share its memory."""
    # (N, H, W, C) -> (N, C, H, W)
    return Samples(torch.from_numpy(data.images).permute(0, 3, 1, 2), torch.from_numpy(data.labels))
