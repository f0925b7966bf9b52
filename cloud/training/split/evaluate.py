"""Measure the accuracy of a bundle at all levels with the packed runtime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cloud.training.split.exit_calibration import LevelLogits
from shared.model.bundle import Bundle
from shared.packed import CloudHalf, DeviceHalf

IMAGES_AT_A_TIME = 500


def device_features(
    half: DeviceHalf, images: npt.NDArray[np.uint8], level: int
) -> npt.NDArray[np.uint8]:
    """Run the device half: images (N, H, W, C) -> packed bits (N, packed bytes of the level)."""
    starts = range(0, len(images), IMAGES_AT_A_TIME)
    return np.concatenate([half.run(images[s : s + IMAGES_AT_A_TIME], level) for s in starts])


def cloud_logits(
    half: CloudHalf, features: npt.NDArray[np.uint8], level: int, cloud_level: int
) -> npt.NDArray[np.float32]:
    """Run the cloud half: packed bits (N, bytes) -> logits (N, classes)."""
    starts = range(0, len(features), IMAGES_AT_A_TIME)
    parts = (features[s : s + IMAGES_AT_A_TIME] for s in starts)
    return np.concatenate([half.run(part, level, cloud_level) for part in parts])


def grid_accuracy(
    bundle: Bundle, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
) -> tuple[tuple[float, ...], ...]:
    """Return the accuracy at [device level][cloud level] on images (N, H, W, C), labels (N,)."""
    device, cloud = DeviceHalf(bundle), CloudHalf(bundle)
    rows = []
    for level in range(len(bundle.architecture.device_levels)):
        features = device_features(device, images, level)
        logits = (
            cloud_logits(cloud, features, level, cloud_level)
            for cloud_level in range(len(bundle.architecture.cloud_levels))
        )
        rows.append(tuple(float((row.argmax(axis=1) == labels).mean()) for row in logits))
    return tuple(rows)


def exit_levels(
    bundle: Bundle,
    held_images: npt.NDArray[np.uint8],
    held_labels: npt.NDArray[np.int64],
    test_images: npt.NDArray[np.uint8],
    test_labels: npt.NDArray[np.int64],
) -> list[LevelLogits]:
    """Return logits of the exit head at every device level, and of the cloud at full width."""
    device, cloud = DeviceHalf(bundle), CloudHalf(bundle)
    widest = len(bundle.architecture.cloud_levels) - 1
    levels = []
    for level in range(len(bundle.architecture.device_levels)):
        held = device_features(device, held_images, level)
        test = device_features(device, test_images, level)
        levels.append(
            LevelLogits(
                held_exit=device.exit_logits(held, level),
                held_cloud=cloud_logits(cloud, held, level, widest),
                held_labels=held_labels,
                test_exit=device.exit_logits(test, level),
                test_cloud=cloud_logits(cloud, test, level, widest),
                test_labels=test_labels,
            )
        )
    return levels
