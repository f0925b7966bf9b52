"""The binary networks that taper trains and ships, by name; ``register`` adds other ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from shared.errors import BundleError, UsageError
from shared.model.architecture import NAME, Activation, Architecture, Kind, Shape, Stage

DEVICE_LEVELS = (0.125, 0.25, 0.3, 0.5, 0.75, 1.0)
CLOUD_LEVELS = (0.25, 0.5, 0.75, 1.0)


def paper(input_shape: Shape, classes: int) -> Architecture:
    """The paper's binarized network: 8-channel block on the device, 32 and 64 in the cloud.

    The device block is too narrow for steps of 8 channels, so every channel has its own coefficient
    (linear profile). Inner layers are cut in steps of half a layer on the device and of 16 channels
    in the cloud: with a single inner channel, the accuracy at (0.125, 0.25) stays at 81 %. Source:
    section IV-A, network "Binarized" of arXiv 1710.07830.
    """
    colours = input_shape.channels
    return Architecture(
        name="paper",
        input_shape=input_shape,
        classes=classes,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, colours, 8, step=4),
            Stage("conv2", Kind.BINARY_CONV, 8, 8, pool=2, step=1, profile="linear"),
        ),
        cloud=(
            Stage("conv3", Kind.BINARY_CONV, 8, 32, pool=2, step=16, profile="linear"),
            Stage("conv4", Kind.BINARY_CONV, 32, 64, pool=2, step=16),
            Stage("classify", Kind.BINARY_LINEAR, 64, classes),
        ),
        device_levels=DEVICE_LEVELS,
        cloud_levels=CLOUD_LEVELS,
    )


def compact(input_shape: Shape, classes: int) -> Architecture:
    """The flagship for small grey images: four binary layers on the device, 7x7x32 bits sent.

    Two poolings before the third layer keep the device's costs low. Inner layers of the device are
    cut in steps of 32, since with 16 inner channels small fractions are a point less accurate.
    """
    colours = input_shape.channels
    return Architecture(
        name="compact",
        input_shape=input_shape,
        classes=classes,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, colours, 32, pool=2, step=16),
            Stage("conv2", Kind.BINARY_CONV, 32, 64, pool=2, step=32),
            Stage("conv3", Kind.BINARY_CONV, 64, 96, step=32),
            Stage("conv4", Kind.BINARY_CONV, 96, 32, step=1),
        ),
        cloud=(
            Stage("conv5", Kind.BINARY_CONV, 32, 128, step=32, profile="linear"),
            Stage("conv6", Kind.BINARY_CONV, 128, 128, pool=2, step=32),
            Stage("classify", Kind.BINARY_LINEAR, 128, classes),
        ),
        device_levels=DEVICE_LEVELS,
        cloud_levels=CLOUD_LEVELS,
        exit_head=True,
    )


def colour(input_shape: Shape, classes: int) -> Architecture:
    """The flagship for small colour images: three binary layers on the device, 8x8x64 bits sent.

    Both device layers pool, so that only the pixel layer works on maps of 32x32. Inner layers are
    cut in steps of 32, since natural images need that many channels at any fraction.
    """
    colours = input_shape.channels
    return Architecture(
        name="colour",
        input_shape=input_shape,
        classes=classes,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, colours, 64, pool=2, step=32),
            Stage("conv2", Kind.BINARY_CONV, 64, 128, pool=2, step=32),
            Stage("conv3", Kind.BINARY_CONV, 128, 64, step=1),
        ),
        cloud=(
            Stage("conv4", Kind.BINARY_CONV, 64, 192, profile="linear", step=32),
            Stage("conv5", Kind.BINARY_CONV, 192, 192, pool=2, step=32),
            Stage("conv6", Kind.BINARY_CONV, 192, 256, pool=2, step=32),
            Stage("classify", Kind.BINARY_LINEAR, 256, classes),
        ),
        device_levels=DEVICE_LEVELS,
        cloud_levels=CLOUD_LEVELS,
        exit_head=True,
    )


def wide_colour(input_shape: Shape, classes: int) -> Architecture:
    """The large network for colour images: first layer at full resolution, ternary in the cloud.

    Pooling begins in the second layer, and 8x8x96 bits are sent. Inner layers are cut in steps of
    32, as in ``colour``.
    """
    colours = input_shape.channels
    ternary = Activation.TERNARY
    return Architecture(
        name="wide-colour",
        input_shape=input_shape,
        classes=classes,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, colours, 64, step=32),
            Stage("conv2", Kind.BINARY_CONV, 64, 96, pool=2, step=32),
            Stage("conv3", Kind.BINARY_CONV, 96, 128, step=32),
            Stage("conv4", Kind.BINARY_CONV, 128, 96, pool=2, step=1),
        ),
        cloud=(
            Stage(
                "conv5", Kind.BINARY_CONV, 96, 256, step=32, profile="linear", activation=ternary
            ),
            Stage("conv6", Kind.BINARY_CONV, 256, 256, pool=2, step=32, activation=ternary),
            Stage("conv7", Kind.BINARY_CONV, 256, 384, pool=2, step=32, activation=ternary),
            Stage("classify", Kind.BINARY_LINEAR, 384, classes),
        ),
        device_levels=DEVICE_LEVELS,
        cloud_levels=CLOUD_LEVELS,
        exit_head=True,
    )


def wide_compact(input_shape: Shape, classes: int) -> Architecture:
    """``compact`` that sends 56 channels in place of 32, with a ternary layer in the cloud."""
    colours = input_shape.channels
    return Architecture(
        name="wide-compact",
        input_shape=input_shape,
        classes=classes,
        device=(
            Stage("conv1", Kind.IMAGE_CONV, colours, 32, pool=2, step=16),
            Stage("conv2", Kind.BINARY_CONV, 32, 64, pool=2, step=32),
            Stage("conv3", Kind.BINARY_CONV, 64, 96, step=32),
            Stage("conv4", Kind.BINARY_CONV, 96, 56, step=1),
        ),
        cloud=(
            Stage(
                "conv5",
                Kind.BINARY_CONV,
                56,
                128,
                step=32,
                profile="linear",
                activation=Activation.TERNARY,
            ),
            Stage("conv6", Kind.BINARY_CONV, 128, 128, pool=2, step=32),
            Stage("classify", Kind.BINARY_LINEAR, 128, classes),
        ),
        device_levels=DEVICE_LEVELS,
        cloud_levels=CLOUD_LEVELS,
        exit_head=True,
    )


Maker = Callable[[Shape, int], Architecture]  # (shape of pictures, number of classes)

ARCHITECTURES: dict[str, Maker] = {
    "paper": paper,
    "compact": compact,
    "colour": colour,
    "wide-colour": wide_colour,
    "wide-compact": wide_compact,
}


def register(name: str, make: Maker) -> None:
    """Register a network under ``name``, which every flag for networks then accepts.

    ``UsageError`` if the name is taken or invalid.
    """
    if name in ARCHITECTURES or not NAME.fullmatch(name):
        raise UsageError(f"network {name!r}: is taken, or no name of letters, digits, - and _")
    ARCHITECTURES[name] = make


def architecture(name: str, input_shape: Shape, classes: int) -> Architecture:
    """Return the network called ``name`` for images of ``input_shape``.

    MODULE:NAME calls that function of a user's module. ``UsageError`` lists the known names, or
    says that the network does not fit images of this shape.
    """
    make = _imported(name) if ":" in name else ARCHITECTURES.get(name)
    if make is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UsageError(f"--network: {name!r} is unknown; known networks: {known}")
    try:
        made = make(input_shape, classes)
    except BundleError as error:
        shape = f"{input_shape.height}x{input_shape.width}x{input_shape.channels}"
        raise UsageError(f"--network: {name} does not fit images of {shape} ({error})") from None
    if not isinstance(made, Architecture):
        raise UsageError(f"--network: {name} gives no Architecture")
    return made


def _imported(name: str) -> Maker:
    module, _, word = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), word)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--network: {name} cannot be imported ({error})") from None
    if not callable(found):
        raise UsageError(f"--network: {name} is no function of a shape and a number of classes")
    maker: Maker = found
    return maker
