"""Run halves of networks in the compiled kernels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError
from shared.model.architecture import Architecture, Shape, Stage
from shared.model.bundle import Bundle
from shared.model.stage_tensors import StageTensors
from shared.packed import _native

Plan = tuple[int, list[int]]  # (input channels, output channels of every stage)


class CompiledHalf:
    """Stages in native code; ``run`` is thread-safe."""

    def __init__(
        self, kernel: str, shape: Shape, stages: Iterable[dict[str, Any]], plans: Iterable[Plan]
    ) -> None:
        self._plans = list(plans)
        described = list(stages)
        size = (shape.height, shape.width, shape.channels)
        try:
            self._half = _native.Half(kernel, size, described, self._plans)
        except ValueError as error:
            raise BundleError(f"network: cannot be run ({error})") from None
        self._dtype = np.dtype(np.float32 if described[-1]["scale"].size else np.uint8)
        widths = [self._half.output_bytes(plan) for plan in range(len(self._plans))]
        self._columns = [width // self._dtype.itemsize for width in widths]

    @property
    def native(self) -> _native.Half:
        """The compiled object, for other native code."""
        return self._half

    def run(self, samples: npt.NDArray[np.uint8], plan: int) -> npt.NDArray[Any]:
        """Run samples (batch, ...) -> bits (batch, bytes) uint8 or logits (batch,
        classes) float32.
        """
        output = np.empty((len(samples), self._columns[plan]), self._dtype)
        self._half.run(samples, plan, output)
        return output

    def profile(self, sample: npt.NDArray[np.uint8], plan: int, repeats: int = 1000) -> list[float]:
        """Return the seconds of decoding a sample (1, bytes), of each stage, of encoding the
        result.
        """
        return self._half.profile(sample, plan, repeats)


def device_half(bundle: Bundle, kernel: str) -> CompiledHalf:
    """Return the device stages, with a plan for each device level."""
    architecture = bundle.architecture
    levels = range(len(architecture.device_levels))
    stages = [_describe(stage, bundle.stage("device", stage.name)) for stage in architecture.device]
    channels = architecture.input_shape.channels
    plans = [
        (channels, [after.channels for _, _, after in architecture.device_shapes(level)])
        for level in levels
    ]
    return CompiledHalf(kernel, architecture.input_shape, stages, plans)


def exit_half(bundle: Bundle, kernel: str) -> CompiledHalf:
    """Return the exit head, whose sums float32 holds exactly, with a plan for each device level."""
    architecture = bundle.architecture
    if architecture.exit_stage is None:
        raise ValueError(f"network {architecture.name} has no exit head")
    tensors = bundle.stage("exit", "exit")
    plain = replace(tensors, scale=np.ones_like(tensors.scale), bias=np.zeros_like(tensors.bias))
    stages = [_describe(architecture.exit_stage, plain)]
    plans = [
        (architecture.sent_shape(level).channels, [architecture.classes])
        for level in range(len(architecture.device_levels))
    ]
    return CompiledHalf(kernel, _full_sent_shape(architecture), stages, plans)


def cloud_half(bundle: Bundle, kernel: str) -> CompiledHalf:
    """Return the cloud stages, with a plan for each pair of a device level and a cloud level."""
    architecture = bundle.architecture
    stages = [_describe(stage, bundle.stage("cloud", stage.name)) for stage in architecture.cloud]
    plans = [
        (
            architecture.sent_shape(level).channels,
            [after.channels for _, _, after in architecture.cloud_shapes(level, cloud_level)],
        )
        for level in range(len(architecture.device_levels))
        for cloud_level in range(len(architecture.cloud_levels))
    ]
    return CompiledHalf(kernel, _full_sent_shape(architecture), stages, plans)


def _full_sent_shape(architecture: Architecture) -> Shape:
    return architecture.sent_shape(len(architecture.device_levels) - 1)


def _describe(stage: Stage, tensors: StageTensors) -> dict[str, Any]:
    arrays = {name: np.ascontiguousarray(array) for name, array in vars(tensors).items()}
    return {
        "kind": stage.kind.value,
        "in_channels": stage.in_channels,
        "out_channels": stage.out_channels,
        "pool": stage.pool,
        "stride": stage.stride,
        **arrays,
    }
