"""Accuracy of a bundle over all levels, measured with the packed runtime that users run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.bundle import Bundle
from shared.packed import CloudHalf, DeviceHalf

IMAGES_AT_A_TIME = 500


def device_features(
    half: DeviceHalf, images: npt.NDArray[np.uint8], level: int
) -> npt.NDArray[np.uint8]:
    """Packed bits of many images: (N, H, W, C) -> (N, packed bytes of the level)."""
    starts = range(0, len(images), IMAGES_AT_A_TIME)
    return np.concatenate([half.run(images[s : s + IMAGES_AT_A_TIME], level) for s in starts])


def grid_accuracy(
    bundle: Bundle, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
) -> tuple[tuple[float, ...], ...]:
    """Share of right answers at [device level][cloud level] on images (N, H, W, C)."""
    device, cloud = DeviceHalf(bundle), CloudHalf(bundle)
    rows = []
    for level in range(len(bundle.architecture.device_levels)):
        features = device_features(device, images, level)
        row = []
        for cloud_level in range(len(bundle.architecture.cloud_levels)):
            right = 0
            for start in range(0, len(images), IMAGES_AT_A_TIME):
                part = slice(start, start + IMAGES_AT_A_TIME)
                logits = cloud.run(features[part], level, cloud_level)
                right += int((logits.argmax(axis=1) == labels[part]).sum())
            row.append(right / len(images))
        rows.append(tuple(row))
    return tuple(rows)
