"""The two halves of a network, each run in one call from packed bytes to packed bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shared.bits import pack, unpack
from shared.bundle import Bundle
from shared.packed.reference import ReferenceStage

Features = npt.NDArray[np.uint8]  # (B, packed bytes of one sample), bits channel-last


class DeviceHalf:
    """The device's stages of a bundle: images in, packed bits out."""

    def __init__(self, bundle: Bundle) -> None:
        self.architecture = bundle.architecture
        full = len(self.architecture.device_levels) - 1
        self._stages = [
            ReferenceStage(stage, before, bundle.stage("device", stage.name))
            for stage, before, _ in self.architecture.device_shapes(full)
        ]
        exit_stage = self.architecture.exit_stage
        self._exit = (
            None
            if exit_stage is None
            else ReferenceStage(
                exit_stage, self.architecture.sent_shape(full), bundle.stage("exit", "exit")
            )
        )

    def run(self, images: npt.NDArray[np.uint8], level: int) -> Features:
        """Packed bits at device level index ``level``.

        images (B, H, W, C) uint8 -> (B, sent_shape(level).packed_bytes) uint8. Raises
        ``ValueError`` for another shape, type or level.
        """
        return pack_map(self.trace(images, level)[-1])

    def trace(self, images: npt.NDArray[np.uint8], level: int) -> list[npt.NDArray[np.bool_]]:
        """Bits (B, H, W, n) after every stage, for comparing implementations."""
        self._check(images, level)
        x = images.astype(np.float32)
        trace = []
        shapes = self.architecture.device_shapes(level)
        for runner, (_, _, after) in zip(self._stages, shapes, strict=True):
            bits = runner.bits(runner.sums(x, after.channels), level)
            trace.append(bits)
            x = signs(bits)
        return trace

    def exit_logits(self, features: Features, level: int) -> npt.NDArray[np.float32]:
        """Logits of the exit head: packed bits (B, bytes) -> (B, classes)."""
        if self._exit is None:
            raise ValueError(f"network {self.architecture.name} has no exit head")
        shape = self.architecture.sent_shape(level)
        x = signs(unpack_map(features, shape.height, shape.width, shape.channels))
        return self._exit.logits(self._exit.sums(x, self.architecture.classes), level)

    def _check(self, images: npt.NDArray[np.uint8], level: int) -> None:
        shape = self.architecture.input_shape
        wanted = (shape.height, shape.width, shape.channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
            raise ValueError(
                f"images: {images.dtype}{images.shape} is not allowed, must be uint8 (batch, "
                f"{', '.join(map(str, wanted))})"
            )
        check_level("level", level, len(self.architecture.device_levels))


class CloudHalf:
    """The cloud's stages of a bundle: packed bits in, logits out."""

    def __init__(self, bundle: Bundle) -> None:
        self.architecture = bundle.architecture
        full = len(self.architecture.device_levels) - 1
        top = len(self.architecture.cloud_levels) - 1
        self._stages = [
            ReferenceStage(stage, before, bundle.stage("cloud", stage.name))
            for stage, before, _ in self.architecture.cloud_shapes(full, top)
        ]

    def run(self, features: Features, level: int, cloud_level: int) -> npt.NDArray[np.float32]:
        """Logits of packed bits that were made at ``level``, finished at ``cloud_level``.

        features (B, sent_shape(level).packed_bytes) uint8 -> (B, classes) float32. Raises
        ``ValueError`` for another shape, type or level.
        """
        sums = self.trace(features, level, cloud_level)[-1]
        pair = level * len(self.architecture.cloud_levels) + cloud_level
        return self._stages[-1].logits(sums, pair)

    def trace(self, features: Features, level: int, cloud_level: int) -> list[npt.NDArray[Any]]:
        """Bits after every stage but the last, then the last one's sums (B, 1, 1, classes)."""
        check_level("level", level, len(self.architecture.device_levels))
        check_level("cloud_level", cloud_level, len(self.architecture.cloud_levels))
        shape = self.architecture.sent_shape(level)
        x = signs(unpack_map(features, shape.height, shape.width, shape.channels))
        pair = level * len(self.architecture.cloud_levels) + cloud_level
        trace: list[npt.NDArray[Any]] = []
        shapes = self.architecture.cloud_shapes(level, cloud_level)
        for runner, (_, _, after) in zip(self._stages, shapes, strict=True):
            sums = runner.sums(x, after.channels)
            if runner is self._stages[-1]:
                trace.append(sums)
            else:
                bits = runner.bits(sums, pair)
                trace.append(bits)
                x = signs(bits)
        return trace


def signs(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """-1 or +1 for each bit, same shape."""
    return np.where(bits, np.float32(1), np.float32(-1))


def pack_map(bits: npt.NDArray[np.bool_]) -> Features:
    """Bits (B, H, W, n) -> packed (B, ceil(H * W * n / 8))."""
    return pack(bits.reshape(len(bits), -1))


def unpack_map(features: Features, height: int, width: int, count: int) -> npt.NDArray[np.bool_]:
    """Packed (B, bytes) -> bits (B, height, width, count); ``ValueError`` for another size."""
    size = height * width * count
    if features.dtype != np.uint8 or features.ndim != 2 or features.shape[1] != -(-size // 8):
        raise ValueError(
            f"features: {features.dtype}{features.shape} is not allowed, must be uint8 (batch, "
            f"{-(-size // 8)})"
        )
    # (B, bytes) -> (B, H * W * n) -> (B, H, W, n)
    return unpack(features, size).reshape(len(features), height, width, count)


def check_level(name: str, level: int, count: int) -> None:
    """Raise ``ValueError`` unless ``level`` is an index into ``count`` levels."""
    if not 0 <= level < count:
        raise ValueError(f"{name}: {level} is not allowed, must be 0 to {count - 1}")
