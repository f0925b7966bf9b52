"""The tensors of one stage, and their form in a bundle file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError
from shared.model.architecture import Activation, Kind, Shape, Stage, kernel_size
from shared.model.bits import pack, unpack

Array = npt.NDArray[Any]

LARGEST_COEFFICIENT = 127
LARGEST_PIXEL = 255


def _empty(dtype: type[np.generic]) -> Callable[[], Array]:
    return lambda: np.zeros((0, 0), dtype)


@dataclass(frozen=True)
class StageTensors:
    """The tensors of one stage, as the runtime uses them.

    weight        uint8 (out, ceil(kh * kw * in / 8)): bit 1 is +1, in the order (kh, kw, in)
    coefficients  int32 (in,): the profile
    threshold     int32 (levels, out): bit = (sum >= threshold) xor flip; empty for logits
    flip          uint8 (levels, out), 0 or 1
    scale, bias   float32 (levels, out): logit = sum * scale + bias; empty for bits
    low_threshold int32 (levels, out): of the second bit of a ternary stage, with the same flip;
                  empty for other stages
    """

    weight: npt.NDArray[np.uint8]
    coefficients: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.int32] = field(default_factory=_empty(np.int32))
    flip: npt.NDArray[np.uint8] = field(default_factory=_empty(np.uint8))
    scale: npt.NDArray[np.float32] = field(default_factory=_empty(np.float32))
    bias: npt.NDArray[np.float32] = field(default_factory=_empty(np.float32))
    low_threshold: npt.NDArray[np.int32] = field(default_factory=_empty(np.int32))


def to_file(
    tensors: StageTensors, stage: Stage, shape: Shape, before: Activation
) -> dict[str, Array]:
    """Return the arrays of a stage with an input of ``shape`` for a bundle file, by field name.

    ``before`` is the activation of the stage that made the input. Thresholds are clipped to the
    range of possible sums, which changes no bit, and stored in two bytes if that suffices. Flips
    take one bit. Empty fields are left out.
    """
    fields: dict[str, Array] = {
        "weight": tensors.weight,
        "coefficients": tensors.coefficients.astype(np.uint8),
    }
    if tensors.threshold.size:
        reach = largest_sum(tensors.coefficients, stage, shape, before) + 1
        fields["threshold"] = _clipped(tensors.threshold, reach)
        fields["flip"] = pack(tensors.flip)
        if tensors.low_threshold.size:
            fields["low_threshold"] = _clipped(tensors.low_threshold, reach)
    else:
        fields["scale"] = tensors.scale
        fields["bias"] = tensors.bias
    return fields


def from_file(
    fields: Mapping[str, Array], stage: Stage, shape: Shape, levels: int, logits: bool, where: str
) -> StageTensors:
    """Undo ``to_file``; ``BundleError`` names ``where`` for a wrong type, shape or value."""
    height, width = kernel_size(stage, shape)
    table = (levels, stage.out_channels)
    expected: dict[str, tuple[tuple[type[np.generic], ...], tuple[int, ...]]] = {
        "weight": ((np.uint8,), (stage.out_channels, -(-height * width * stage.in_channels // 8))),
        "coefficients": ((np.uint8,), (stage.in_channels,)),
    }
    if logits:
        expected |= {"scale": ((np.float32,), table), "bias": ((np.float32,), table)}
    else:
        expected |= {
            "threshold": ((np.int16, np.int32), table),
            "flip": ((np.uint8,), (levels, -(-stage.out_channels // 8))),
        }
        if stage.activation is Activation.TERNARY:
            expected["low_threshold"] = expected["threshold"]
    for name, (dtypes, size) in expected.items():
        array = fields.get(name)
        if array is None:
            raise BundleError(f"{where}: has no tensor {name}")
        if array.dtype not in dtypes or array.shape != size:
            wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
            raise BundleError(
                f"{where}: tensor {name} is {array.dtype}{array.shape}, must be {wanted}{size}"
            )
    coefficients = fields["coefficients"].astype(np.int32)
    allowed = 1 if stage.kind is Kind.IMAGE_CONV else LARGEST_COEFFICIENT
    if np.any(coefficients > allowed) or np.any(np.diff(coefficients) > 0):
        raise BundleError(f"{where}: coefficients must not increase and be at most {allowed}")
    if logits and not (np.isfinite(fields["scale"]).all() and np.isfinite(fields["bias"]).all()):
        raise BundleError(f"{where}: scale and bias must be finite")
    values = {"weight": fields["weight"], "coefficients": coefficients}
    if logits:
        return StageTensors(**values, scale=fields["scale"], bias=fields["bias"])
    for name in expected.keys() & {"threshold", "low_threshold"}:
        values[name] = fields[name].astype(np.int32)
    return StageTensors(**values, flip=unpack(fields["flip"], stage.out_channels).astype(np.uint8))


def largest_sum(
    coefficients: npt.NDArray[np.int32],
    stage: Stage,
    shape: Shape,
    before: Activation = Activation.BINARY,
) -> int:
    """Return the largest magnitude that a sum of the stage can have."""
    height, width = kernel_size(stage, shape)
    return int(coefficients.sum()) * height * width * largest_input(stage, before)


def largest_input(stage: Stage, before: Activation) -> int:
    """Return the largest magnitude of an input value of the stage."""
    return LARGEST_PIXEL if stage.kind is Kind.IMAGE_CONV else before.largest


def _clipped(thresholds: npt.NDArray[np.int32], reach: int) -> Array:
    clipped = np.clip(thresholds, -reach, reach)
    return clipped.astype(np.int16 if reach <= 32767 else np.int32)
