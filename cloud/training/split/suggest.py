"""Suggest a network for pictures of a given size, with the widest device half within a budget.

The halves are modelled on the shipped networks. The device halves the map until its side is some 5
to 10 pixels, and sends the bits of that map. The cloud has more channels and ternary activations,
and halves the map once or twice more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from cloud.training.split.architectures import CLOUD_LEVELS, DEVICE_LEVELS
from shared.errors import UsageError
from shared.model.architecture import Activation, Architecture, Kind, Shape, Stage

BYTE = 8  # channels are multiples of this, as kernels work on whole bytes
SENT_SIDE = 10  # largest side of the map that is sent
SMALLEST_SIDE = 8
LARGEST_BASE = 256  # channels of the first stage
# Channels of each stage relative to the first. Halving a map divides its cost by four, so channels
# may double with each stage; which growth is best depends on the budget.
GROWTHS = ((1, 2, 4, 4), (1, 2, 2, 4), (1, 2, 2, 2), (1, 1, 2, 2), (1, 1, 1, 1))
MOST_SENT, LEAST_SENT = 128, 8  # channels
CLOUD_WIDTHS = {1: (128, 128, 128), 3: (192, 192, 256)}  # by colours
LARGEST_STEP = 32


def suggest(
    shape: Shape, classes: int, device_macs: float, payload_bytes: int, name: str
) -> Architecture:
    """Return the widest network whose device half needs at most ``device_macs`` per image at d = 1.

    It sends at most ``payload_bytes`` per image before coding. ``UsageError`` if no network is that
    small; the message gives the costs of the smallest.
    """
    if min(shape.height, shape.width) < SMALLEST_SIDE:
        raise UsageError(f"--size: {shape.height}x{shape.width} is too small; give 8x8 or more")
    halvings = max(1, math.ceil(math.log2(max(shape.height, shape.width) / SENT_SIDE)))
    halvings = min(halvings, math.floor(math.log2(min(shape.height, shape.width) / 4)))
    sent = _sent_channels(shape, halvings, payload_bytes)
    smallest = None
    best: tuple[float, Architecture] | None = None
    for channels in _choices(halvings):
        made = _network(shape, classes, channels, sent, name)
        macs = made.device_macs(len(made.device_levels) - 1)
        smallest = min(smallest or macs, macs)
        if macs <= device_macs and (best is None or macs > best[0]):
            best = (macs, made)
    if best is None:
        raise UsageError(
            f"--device-mmac: {device_macs / 1e6:g} is too little for {shape.height}x{shape.width}; "
            f"the smallest network takes {(smallest or 0) / 1e6:.1f}"
        )
    return best[1]


def _sent_channels(shape: Shape, halvings: int, payload_bytes: int) -> int:
    pixels = (shape.height >> halvings) * (shape.width >> halvings)
    fits = 8 * payload_bytes // pixels
    if fits < LEAST_SENT:
        raise UsageError(
            f"--payload: {payload_bytes} bytes are too few for a map of "
            f"{shape.height >> halvings}x{shape.width >> halvings}; give at least "
            f"{-(-LEAST_SENT * pixels // 8)}"
        )
    return int(min(fits - fits % BYTE, MOST_SENT))


def _choices(halvings: int) -> Iterator[tuple[int, ...]]:
    """Yield the channels of the stages that halve the map and of the one that does not."""
    for growth in GROWTHS:
        stages = growth + (growth[-1],) * halvings
        for base in range(BYTE, LARGEST_BASE + 1, BYTE):
            yield tuple(base * times for times in stages[: halvings + 1])


def _network(
    shape: Shape, classes: int, channels: tuple[int, ...], sent: int, name: str
) -> Architecture:
    device, before = [], shape.channels
    for index, count in enumerate(channels):
        kind = Kind.BINARY_CONV if index else Kind.IMAGE_CONV
        pool = 2 if index < len(channels) - 1 else 1
        device.append(Stage(f"conv{index + 1}", kind, before, count, pool, _step(count)))
        before = count
    number = len(device) + 1
    device.append(Stage(f"conv{number}", Kind.BINARY_CONV, before, sent, step=1))
    halvings = len(channels) - 1
    side = min(shape.height, shape.width) >> halvings
    cloud, before = [], sent
    for index, count in enumerate(CLOUD_WIDTHS[shape.channels]):
        pool = 2 if index and side >= 2 * 2 else 1
        side //= pool
        cloud.append(
            Stage(
                f"conv{number + 1 + index}",
                Kind.BINARY_CONV,
                before,
                count,
                pool,
                LARGEST_STEP,
                "staircase" if index else "linear",
                Activation.TERNARY,
            )
        )
        before = count
    cloud.append(Stage("classify", Kind.BINARY_LINEAR, before, classes))
    return Architecture(
        name,
        shape,
        classes,
        tuple(device),
        tuple(cloud),
        DEVICE_LEVELS,
        CLOUD_LEVELS,
        exit_head=True,
    )


def _step(count: int) -> int:
    """Return half of the channels, at most 32: smaller steps cost more accuracy than they save."""
    return min(LARGEST_STEP, max(BYTE, count // 2 // BYTE * BYTE))
