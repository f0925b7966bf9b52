"""The architecture of a split binary network as plain values, for training and runtime.

A network is a list of stages on the device and a list of stages in the cloud. Every stage is a
convolution over 3x3 or over the whole map (a linear layer), then optional 2x2 max pooling, then a
threshold that gives bits; the last cloud stage gives logits instead. Cloud stages may have two
thresholds per channel (``Activation.TERNARY``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from shared.errors import BundleError, FractionError
from shared.fractions import channels, check_levels
from shared.profiles import PROFILES

# Names become part of tensor names and of messages of one line.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LARGEST_SIZE = 2**16  # of sides, channels, kernels and steps; limits what a file can request
LARGEST_STRIDE = 2  # with a 3x3 kernel, larger strides would skip pixels


class Kind(str, Enum):
    """The kind of a stage's computation."""

    IMAGE_CONV = "image_conv"  # 3x3 over uint8 pixels, padded with 0
    BINARY_CONV = "binary_conv"  # 3x3 over bits, padded with -1
    BINARY_LINEAR = "binary_linear"  # over the whole map of bits


class Activation(str, Enum):
    """The function applied to a stage's normalised sums."""

    BINARY = "binary"  # one sign: -1 or +1
    TERNARY = "ternary"  # the sum of two signs: -2, 0 or +2

    @property
    def largest(self) -> int:
        """The largest value; the smallest, with which the next stage is padded, is its negative."""
        return 2 if self is Activation.TERNARY else 1


@dataclass(frozen=True)
class Stage:
    """A layer with pooling and activation, up to the next bits."""

    name: str
    kind: Kind
    in_channels: int
    out_channels: int
    pool: int = 1  # side of the max pooling window, 1 for none
    step: int = 8  # output channels are cut in whole steps of this many
    profile: str = "staircase"  # coefficients of the input channels; image stages have none
    activation: Activation = Activation.BINARY  # ternary only in the cloud, except its last stage
    stride: int = 1  # of the convolution, instead of pooling; 2 computes every other pixel


@dataclass(frozen=True)
class Shape:
    """Height, width and channels of a map; bits are laid out channel-last in this order."""

    height: int
    width: int
    channels: int

    @property
    def size(self) -> int:
        """Number of values of a map."""
        return self.height * self.width * self.channels

    @property
    def packed_bytes(self) -> int:
        """Bytes of one bit per value, without gaps between pixels."""
        return -(-self.size // 8)


@dataclass(frozen=True)
class Architecture:
    """A split network and the levels that it is trained for.

    ``device_levels`` and ``cloud_levels`` ascend and end with 1. A device level cuts all device
    stages; a cloud level cuts the outputs of all cloud stages but the last, which has one output
    per class. ``exit_head`` adds a binary linear classifier on the bits that the device sends.
    """

    name: str
    input_shape: Shape
    classes: int
    device: tuple[Stage, ...]
    cloud: tuple[Stage, ...]
    device_levels: tuple[float, ...]
    cloud_levels: tuple[float, ...]
    exit_head: bool = False

    def __post_init__(self) -> None:
        check_levels(self.device_levels, "device_levels")
        check_levels(self.cloud_levels, "cloud_levels")
        if not self.device or not self.cloud:
            raise BundleError(f"network {self.name}: needs stages on the device and in the cloud")
        for stages in (self.device, self.cloud):
            names = [stage.name for stage in stages]
            if len(set(names)) < len(names):
                raise BundleError(f"network {self.name}: two stages of one half have the same name")
        shape = self.input_shape
        for stage in self.stages:
            _check_stage(stage, shape)
            shape = output_shape(stage, shape)
        last = self.cloud[-1]
        for stage in (*self.device, last):
            if stage.activation is not Activation.BINARY:
                raise BundleError(
                    f"network {self.name}: stage {stage.name} must be binary; ternary are cloud "
                    "stages alone, and not the last"
                )
        if last.kind is not Kind.BINARY_LINEAR or last.out_channels != self.classes:
            raise BundleError(
                f"network {self.name}: the last stage must be binary_linear to {self.classes}"
            )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of both halves, in order."""
        return (*self.device, *self.cloud)

    @property
    def exit_stage(self) -> Stage | None:
        """The exit head, a classifier on the device's bits; None if there is none."""
        if not self.exit_head:
            return None
        sent = self.device[-1]
        profile = self.cloud[0].profile
        return Stage("exit", Kind.BINARY_LINEAR, sent.out_channels, self.classes, profile=profile)

    @property
    def strided(self) -> bool:
        """Whether any stage has a stride, which boards and older releases cannot run."""
        return any(stage.stride > 1 for stage in self.stages)

    @property
    def cloud_inputs(self) -> tuple[Activation, ...]:
        """The activation that makes each cloud stage's input: the device's bits for the first."""
        return (Activation.BINARY, *(stage.activation for stage in self.cloud[:-1]))

    def sent_shape(self, level: int) -> Shape:
        """Return the shape of the bits that a device sends at device level index ``level``."""
        *_, (_, _, shape) = self.device_shapes(level)
        return shape

    def device_shapes(self, level: int) -> Iterator[tuple[Stage, Shape, Shape]]:
        """Yield each device stage with its input and output shape at device level index
        ``level``.
        """
        fraction = self.device_levels[level]
        shape = self.input_shape
        for stage in self.device:
            after = output_shape(stage, shape, channels(fraction, stage.out_channels, stage.step))
            yield stage, shape, after
            shape = after

    def cloud_shapes(self, level: int, cloud_level: int) -> Iterator[tuple[Stage, Shape, Shape]]:
        """Yield each cloud stage with its input and output shape at the two level indices."""
        fraction = self.cloud_levels[cloud_level]
        shape = self.sent_shape(level)
        for stage in self.cloud:
            last = stage is self.cloud[-1]
            kept = self.classes if last else channels(fraction, stage.out_channels, stage.step)
            after = output_shape(stage, shape, kept)
            yield stage, shape, after
            shape = after

    def device_macs(self, level: int) -> int:
        """Return the multiply-accumulates of the device stages for one image."""
        return sum(_macs(*entry) for entry in self.device_shapes(level))

    def cloud_macs(self, level: int, cloud_level: int) -> int:
        """Return the multiply-accumulates of the cloud stages for one image."""
        return sum(_macs(*entry) for entry in self.cloud_shapes(level, cloud_level))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON value for ``from_json``, without fields that have the original defaults."""
        value = asdict(self)
        for stage in (*value["device"], *value["cloud"]):
            if stage["activation"] is Activation.BINARY:
                del stage["activation"]
            if stage["stride"] == 1:
                del stage["stride"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Architecture:
        """Parse the output of ``to_json``; raises ``BundleError`` for anything else."""
        try:
            return cls(
                name=_name(value["name"]),
                input_shape=Shape(
                    **{key: _whole(size) for key, size in value["input_shape"].items()}
                ),
                classes=_whole(value["classes"]),
                device=tuple(_stage_from_json(stage) for stage in value["device"]),
                cloud=tuple(_stage_from_json(stage) for stage in value["cloud"]),
                device_levels=tuple(float(level) for level in value["device_levels"]),
                cloud_levels=tuple(float(level) for level in value["cloud_levels"]),
                exit_head=bool(value["exit_head"]),
            )
        except FractionError as error:
            raise BundleError(f"network description: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise BundleError(f"network description: cannot be read ({error!r})") from None


def kernel_size(stage: Stage, shape: Shape) -> tuple[int, int]:
    """Return height and width of the stage's kernel on an input of ``shape``."""
    return (shape.height, shape.width) if stage.kind is Kind.BINARY_LINEAR else (3, 3)


def output_shape(stage: Stage, shape: Shape, out_channels: int | None = None) -> Shape:
    """Return the shape after the stage with ``out_channels`` of its channels (default: all)."""
    kept = stage.out_channels if out_channels is None else out_channels
    if stage.kind is Kind.BINARY_LINEAR:
        return Shape(1, 1, kept)
    if stage.stride > 1:
        return Shape(-(-shape.height // stage.stride), -(-shape.width // stage.stride), kept)
    return Shape(shape.height // stage.pool, shape.width // stage.pool, kept)


def _macs(stage: Stage, before: Shape, after: Shape) -> int:
    height, width = kernel_size(stage, before)
    # Before pooling all pixels are computed; a stride computes only those that remain.
    at = after if stage.kind is Kind.BINARY_LINEAR or stage.stride > 1 else before
    pixels = at.height * at.width
    return pixels * height * width * before.channels * after.channels


def _check_stage(stage: Stage, shape: Shape) -> None:
    where = f"stage {stage.name}"
    if stage.in_channels != shape.channels:
        raise BundleError(f"{where}: in_channels is {stage.in_channels}, got {shape.channels}")
    if min(stage.in_channels, stage.out_channels, stage.pool, stage.step, stage.stride) < 1:
        raise BundleError(f"{where}: channels, pool, step and stride must be at least 1")
    if stage.stride > 1 and (stage.pool > 1 or stage.kind is Kind.BINARY_LINEAR):
        raise BundleError(f"{where}: a stride is of a convolution without a pool")
    if stage.stride > LARGEST_STRIDE:
        raise BundleError(f"{where}: stride {stage.stride} is not allowed; give 1 or 2")
    if min(shape.height, shape.width) < stage.pool:
        raise BundleError(f"{where}: pool {stage.pool} is larger than the map")
    if stage.profile not in PROFILES:
        raise BundleError(f"{where}: profile {stage.profile!r} is unknown")


def _stage_from_json(value: dict[str, Any]) -> Stage:
    return Stage(
        name=_name(value["name"]),
        kind=Kind(value["kind"]),
        in_channels=_whole(value["in_channels"]),
        out_channels=_whole(value["out_channels"]),
        pool=_whole(value["pool"]),
        step=_whole(value["step"]),
        profile=str(value["profile"]),
        activation=Activation(value.get("activation", Activation.BINARY)),
        stride=_whole(value.get("stride", 1)),
    )


def _name(value: Any) -> str:
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise ValueError(f"{str(value)[:64]!r} is no name of letters, digits, - and _")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= LARGEST_SIZE:
        raise ValueError(f"{str(value)[:64]!r} is no whole number from 1 to {LARGEST_SIZE}")
    return value
