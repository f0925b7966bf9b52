"""A tiny split network and pictures that it learns in a second, for tests of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cloud.training.data.datasets import Dataset
from cloud.training.split.job import Job
from cloud.training.split.processor import CPU
from cloud.training.split.settings import Settings
from shared.model.architecture import Activation, Architecture, Kind, Shape, Stage

CLASSES = 3
QUICK = Settings(
    epochs=3,
    batch=16,
    learning_rate=0.01,
    augment="none",
    warm_up=0.5,
    bfloat16=False,
    calibration_images=64,
    teacher_width=4,
    teacher_augment="none",
)


def tiny(cloud_levels: tuple[float, ...] = (0.5, 1.0)) -> Architecture:
    """8x8 grey pictures, two layers on the device, a ternary and a binary one in the cloud."""
    return Architecture(
        name="tiny",
        input_shape=Shape(8, 8, 1),
        classes=CLASSES,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, 1, 8, pool=2),
            Stage("conv2", Kind.BINARY_CONV, 8, 8, step=1, profile="linear"),
        ),
        cloud=(
            Stage("conv3", Kind.BINARY_CONV, 8, 16, activation=Activation.TERNARY),
            Stage("conv4", Kind.BINARY_CONV, 16, 16, pool=2),
            Stage("classify", Kind.BINARY_LINEAR, 16, CLASSES),
        ),
        device_levels=(0.5, 1.0),
        cloud_levels=cloud_levels,
        exit_head=True,
    )


def pictures(count: int, seed: int = 0) -> Dataset:
    """Noise with a bright bar whose place is the class: upper, middle or lower rows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.integers(0, 120, (count, 8, 8, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[1 + 2 * label : 3 + 2 * label, 1:7] += 130
    return Dataset("bars", images, labels.astype(np.int64), ("0", "1", "2"), f"bars {count} {seed}")


def job(count: int = 96, **changes: object) -> Job:
    """A training of ``tiny`` on ``count`` pictures; ``changes`` are settings."""
    settings = replace(QUICK, **changes)  # type: ignore[arg-type]
    return Job(tiny(), settings, pictures(count), pictures(60, seed=1), CPU)
