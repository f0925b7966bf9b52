"""Split networks with random numbers, for tests and benchmarks of the packed runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shared import profiles
from shared.model.architecture import Activation, Architecture, Kind, Shape, Stage, kernel_size
from shared.model.bundle import Bundle, Metadata, make_bundle, stage_to_file
from shared.model.stage_tensors import StageTensors

Integers = npt.NDArray[np.int32]
Thresholds = Callable[[np.random.Generator, tuple[int, int], int], Integers]


def near_typical_sums(rng: np.random.Generator, table: tuple[int, int], spread: int) -> Integers:
    """Thresholds about as far from 0 as random sums are."""
    return rng.integers(-spread, spread + 1, table).astype(np.int32)


def extreme(rng: np.random.Generator, table: tuple[int, int], spread: int) -> Integers:
    """Thresholds that are never reached, always reached, or at the edge of what a sum can be."""
    limits = np.iinfo(np.int32)
    choices = [limits.min, limits.max, -1, 0, 1, spread, -spread, 32767, -32768, 255, 256]
    return rng.choice(choices, table).astype(np.int32)


def random_bundle(
    architecture: Architecture,
    seed: int = 0,
    thresholds: Thresholds = near_typical_sums,
    weight_bytes: tuple[int, ...] = (),
    coefficients: Callable[[np.random.Generator, int], Integers] | None = None,
) -> Bundle:
    """A bundle with random weights, or weights of ``weight_bytes`` alone, and random tables."""
    rng = np.random.default_rng(seed)
    full = len(architecture.device_levels) - 1
    top = len(architecture.cloud_levels) - 1
    tensors = {}

    def add(group: str, stage: Stage, shape: Shape, levels: int, logits: bool) -> None:
        height, width = kernel_size(stage, shape)
        size = (stage.out_channels, -(-height * width * stage.in_channels // 8))
        image = stage.kind is Kind.IMAGE_CONV
        if image:
            profile = np.ones(stage.in_channels, np.int32)
        elif coefficients is None:
            values = profiles.coefficients(stage.profile, stage.in_channels)
            profile = profiles.quantise(values)
        else:
            profile = coefficients(rng, stage.in_channels)
        norm = float(np.square(profile.astype(np.float64)).sum()) * height * width
        spread = int(np.sqrt(norm)) * (100 if image else 1) + 1
        table = (levels, stage.out_channels)
        none = (0, 0)
        ternary = stage.activation is Activation.TERNARY
        numbers = StageTensors(
            weight=rng.choice(weight_bytes, size).astype(np.uint8)
            if weight_bytes
            else rng.integers(0, 256, size, dtype=np.uint8),
            coefficients=profile,
            threshold=np.zeros(none, np.int32) if logits else thresholds(rng, table, spread),
            flip=rng.integers(0, 2, none if logits else table).astype(np.uint8),
            scale=rng.normal(size=table if logits else none).astype(np.float32),
            bias=rng.normal(size=table if logits else none).astype(np.float32),
            low_threshold=thresholds(rng, table, spread) if ternary else np.zeros(none, np.int32),
        )
        tensors.update(stage_to_file(architecture, group, stage.name, numbers))

    for stage, before, _ in architecture.device_shapes(full):
        add("device", stage, before, full + 1, logits=False)
    if architecture.exit_stage is not None:
        add("exit", architecture.exit_stage, architecture.sent_shape(full), full + 1, logits=True)
    pairs = (full + 1) * (top + 1)
    for stage, before, _ in architecture.cloud_shapes(full, top):
        add("cloud", stage, before, pairs, logits=stage is architecture.cloud[-1])
    names = tuple(str(index) for index in range(architecture.classes))
    return make_bundle(Metadata(architecture.name, architecture, names, (), {}), tensors)


def random_images(shape: Shape, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise, with a black and a white image among the first: (count, H, W, C)."""
    rng = np.random.default_rng(seed)
    size = (count, shape.height, shape.width, shape.channels)
    images = rng.integers(0, 256, size, dtype=np.uint8)
    images[1:2] = 0
    images[2:3] = 255
    return images
