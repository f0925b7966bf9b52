"""The two halves of a network, each run in one call."""

from __future__ import annotations

import operator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError
from shared.model.architecture import Architecture, Kind, Stage
from shared.model.bits import pack, unpack
from shared.model.bundle import Bundle
from shared.model.exits import Logits, exit_tables
from shared.packed import kernels
from shared.packed.reference import ReferenceStage, signs

if kernels.missing_reason() == "":
    from shared.packed import compiled

if TYPE_CHECKING:
    from shared.packed import _native

Features = npt.NDArray[np.uint8]  # (B, packed bytes of one sample), bits channel-last


class DeviceHalf:
    """The device's stages of a bundle, which convert images to packed bits.

    ``kernel`` names an implementation (``shared.packed.kernels.available``); all give the same
    bits. Thread-safe.
    """

    def __init__(self, bundle: Bundle, kernel: str | None = None) -> None:
        self.architecture = bundle.architecture
        self.kernel = kernels.current() if kernel is None else kernels.check(kernel, "kernel")
        self._bundle = bundle
        _check_kinds(self.architecture)
        for stage in self.architecture.device:
            _check_pixels(stage, bundle.stage("device", stage.name).coefficients)
        shape = self.architecture.input_shape
        self._image = (shape.height, shape.width, shape.channels)
        if self.kernel != kernels.NUMPY:
            self._compiled = compiled.device_half(bundle, self.kernel)
            if self.architecture.exit_head:
                self._compiled_exit = compiled.exit_half(bundle, self.kernel)
        if self.architecture.exit_head:
            self._exit_scale, self._exit_bias = exit_tables(bundle)

    def run(self, images: npt.NDArray[np.uint8], level: int) -> Features:
        """Compute the packed bits at device level index ``level``.

        images (B, H, W, C) uint8 -> (B, sent_shape(level).packed_bytes) uint8. Raises
        ``ValueError`` for another shape, type or level.
        """
        level = self._check(images, level)
        if self.kernel == kernels.NUMPY:
            return pack_map(self.trace(images, level)[-1])
        return self._compiled.run(contiguous(images), level)

    @property
    def native(self) -> _native.Half | None:
        """The compiled half, for other native code; None for the reference."""
        return None if self.kernel == kernels.NUMPY else self._compiled.native

    def trace(self, images: npt.NDArray[np.uint8], level: int) -> list[npt.NDArray[np.bool_]]:
        """Compute the bits (B, H, W, n) after every stage with the reference."""
        level = self._check(images, level)
        x = images.astype(np.float32)
        trace = []
        shapes = self.architecture.device_shapes(level)
        for runner, (_, _, after) in zip(self._stages, shapes, strict=True):
            bits = runner.bits(runner.sums(x, after.channels), level)
            trace.append(bits)
            x = signs(bits)
        return trace

    def exit_logits(self, features: Features, level: int) -> Logits:
        """Compute integer logits of the exit head, in 1 / ONE: packed (B, bytes) -> (B,
        classes).
        """
        if not self.architecture.exit_head:
            raise ValueError(f"network {self.architecture.name} has no exit head")
        level = check_level("level", level, len(self.architecture.device_levels))
        check_features(features, self.architecture.sent_shape(level).packed_bytes)
        sums = self._exit_sums(features, level).astype(np.int64)
        logits: Logits = sums * self._exit_scale[level] + self._exit_bias[level]
        return logits

    def _exit_sums(self, features: Features, level: int) -> npt.NDArray[Any]:
        """Compute the exit head's integer sums (B, classes)."""
        if self.kernel != kernels.NUMPY:
            return self._compiled_exit.run(contiguous(features), level)
        shape = self.architecture.sent_shape(level)
        x = signs(unpack_map(features, shape.height, shape.width, shape.channels))
        # (B, 1, 1, classes) -> (B, classes)
        return self._exit_stage.sums(x, self.architecture.classes)[:, 0, 0]

    @cached_property
    def _stages(self) -> list[ReferenceStage]:
        full = len(self.architecture.device_levels) - 1
        return [
            ReferenceStage(stage, before, self._bundle.stage("device", stage.name))
            for stage, before, _ in self.architecture.device_shapes(full)
        ]

    @cached_property
    def _exit_stage(self) -> ReferenceStage:
        shape = self.architecture.sent_shape(len(self.architecture.device_levels) - 1)
        if self.architecture.exit_stage is None:
            raise ValueError(f"network {self.architecture.name} has no exit head")
        tensors = self._bundle.stage("exit", "exit")
        return ReferenceStage(self.architecture.exit_stage, shape, tensors)

    def _check(self, images: npt.NDArray[np.uint8], level: int) -> int:
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != np.uint8
            or images.shape[1:] != self._image
        ):
            raise ValueError(
                f"images: {_kind(images)} is not allowed, must be uint8(batch, "
                f"{', '.join(map(str, self._image))})"
            )
        return check_level("level", level, len(self.architecture.device_levels))


class CloudHalf:
    """The cloud's stages of a bundle, which convert packed bits to logits.

    ``kernel`` names an implementation, as for ``DeviceHalf``. Thread-safe.
    """

    def __init__(self, bundle: Bundle, kernel: str | None = None) -> None:
        self.architecture = bundle.architecture
        self.kernel = kernels.current() if kernel is None else kernels.check(kernel, "kernel")
        self._bundle = bundle
        _check_kinds(self.architecture)
        levels = range(len(self.architecture.device_levels))
        self._sizes = [self.architecture.sent_shape(level).packed_bytes for level in levels]
        if self.kernel != kernels.NUMPY:
            self._compiled = compiled.cloud_half(bundle, self.kernel)

    @property
    def native(self) -> _native.Half | None:
        """The compiled object, for other native code; None for the reference."""
        return None if self.kernel == kernels.NUMPY else self._compiled.native

    def run(self, features: Features, level: int, cloud_level: int) -> npt.NDArray[np.float32]:
        """Compute the logits of packed bits of device level ``level`` at ``cloud_level``.

        features (B, sent_shape(level).packed_bytes) uint8 -> (B, classes) float32. Raises
        ``ValueError`` for another shape, type or level.
        """
        pair = self._check(features, level, cloud_level)
        if self.kernel != kernels.NUMPY:
            return self._compiled.run(contiguous(features), pair)
        sums = self.trace(features, level, cloud_level)[-1]
        return self._stages[-1].logits(sums, pair)

    def trace(self, features: Features, level: int, cloud_level: int) -> list[npt.NDArray[Any]]:
        """Compute each stage's output (B, H, W, n), then the last one's sums (B, 1, 1, classes).

        Uses the reference; values are -1/+1, or -2/0/+2 for ternary stages.
        """
        pair = self._check(features, level, cloud_level)
        shape = self.architecture.sent_shape(level)
        x = signs(unpack_map(features, shape.height, shape.width, shape.channels))
        trace: list[npt.NDArray[Any]] = []
        shapes = self.architecture.cloud_shapes(level, cloud_level)
        for runner, (_, _, after) in zip(self._stages, shapes, strict=True):
            sums = runner.sums(x, after.channels)
            if runner is self._stages[-1]:
                trace.append(sums)
            else:
                x = runner.values(sums, pair)
                trace.append(x)
        return trace

    @cached_property
    def _stages(self) -> list[ReferenceStage]:
        full = len(self.architecture.device_levels) - 1
        top = len(self.architecture.cloud_levels) - 1
        shapes = self.architecture.cloud_shapes(full, top)
        return [
            ReferenceStage(stage, shape, self._bundle.stage("cloud", stage.name), before)
            for (stage, shape, _), before in zip(
                shapes, self.architecture.cloud_inputs, strict=True
            )
        ]

    def _check(self, features: Features, level: int, cloud_level: int) -> int:
        """Check the arguments; return the row of the tables for the two levels."""
        level = check_level("level", level, len(self._sizes))
        cloud_levels = len(self.architecture.cloud_levels)
        cloud_level = check_level("cloud_level", cloud_level, cloud_levels)
        check_features(features, self._sizes[level])
        return level * cloud_levels + cloud_level


def pack_map(bits: npt.NDArray[np.bool_]) -> Features:
    """Pack bits (B, H, W, n) -> (B, ceil(H * W * n / 8))."""
    batch, height, width, count = bits.shape
    return pack(bits.reshape(batch, height * width * count))


def unpack_map(features: Features, height: int, width: int, count: int) -> npt.NDArray[np.bool_]:
    """Unpack (B, bytes) -> bits (B, height, width, count); ``ValueError`` for another size."""
    size = height * width * count
    check_features(features, -(-size // 8))
    # (B, bytes) -> (B, H * W * n) -> (B, H, W, n)
    return unpack(features, size).reshape(len(features), height, width, count)


def contiguous(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return ``array`` in contiguous memory, which native code needs."""
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def check_features(features: Features, size: int) -> None:
    """Raise ``ValueError`` unless ``features`` is uint8 (batch, ``size``)."""
    if (
        not isinstance(features, np.ndarray)
        or features.dtype != np.uint8
        or features.ndim != 2
        or features.shape[1] != size
    ):
        raise ValueError(
            f"features: {_kind(features)} is not allowed, must be uint8(batch, {size})"
        )


def check_level(name: str, level: int, count: int) -> int:
    """Return ``level`` if it is a valid index of ``count`` levels; else raise ``ValueError``."""
    try:
        index = operator.index(level)
    except TypeError:
        index = -1
    if not 0 <= index < count:
        raise ValueError(f"{name}: {level!r} is not allowed, must be 0 to {count - 1}")
    return index


def _check_kinds(architecture: Architecture) -> None:
    """Raise ``BundleError`` unless the device's first stage, and no other, takes pixels."""
    first = architecture.device[0]
    for stage in architecture.stages:
        if (stage.kind is Kind.IMAGE_CONV) != (stage is first):
            raise BundleError(
                f"network {architecture.name}: stage {stage.name} is {stage.kind.value}; the first "
                "stage on the device must be image_conv, and only that one"
            )


def _check_pixels(stage: Stage, coefficients: npt.NDArray[np.int32]) -> None:
    if stage.kind is Kind.IMAGE_CONV and np.any(coefficients != 1):
        raise BundleError(f"stage {stage.name}: coefficients of an image stage must be 1")


def _kind(value: object) -> str:
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
