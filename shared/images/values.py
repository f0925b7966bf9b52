"""Convert numbers of any type to bytes 0..255; type and range determine the value of white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import ImageError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

# Largest values of usual depths of pictures, whatever type holds them.
DEPTHS = (255, 4095, 65535)
# Tolerance for overshoots by rounding; larger values belong to another range.
ROUNDING = 1e-3
LEAST_OF_TYPE = 1 / 8  # data use a type's full range if they reach this share of its maximum
ALLOWED = "0..1, 0..255, 0..4095 or 0..65535"


def white_of(values: Array, name: str) -> float:
    """Determine the value of white in ``values``: 1, 255, 4095, 65535 or the type's maximum.

    Values up to 1 are shares, values up to 255 are 8-bit data, values up to 4,095 are 12-bit data,
    whatever the type. ``ImageError`` says why no range fits.
    """
    kind = values.dtype.kind
    if kind not in "buif":
        raise ImageError(f"{name} holds {values.dtype}; numbers are needed")
    if not values.size:
        return 255.0
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError(f"{name} holds values that are not finite; {ALLOWED} are needed")
    if low < -ROUNDING:
        raise ImageError(f"{name} holds values from {low:g} to {high:g}; {ALLOWED} are needed")
    if kind == "b" or (kind in "ui" and high == 1) or (kind == "f" and 0 < high <= 1 + ROUNDING):
        return 1.0
    if kind == "f" and 1 < high < 2:
        raise ImageError(f"{name} holds values up to {high:g}; {ALLOWED} are needed")
    if values.dtype == np.int8:
        return 127.0
    for depth in DEPTHS:
        if high <= depth * (1 + ROUNDING):
            return float(depth)
    if kind in "ui" and values.dtype.itemsize == 4:
        largest = float(np.iinfo(values.dtype).max)
        if high > largest * LEAST_OF_TYPE:
            return largest
    raise ImageError(f"{name} holds values up to {high:g}; {ALLOWED} are needed")


def to_bytes(values: Array, white: float, black: float = 0.0) -> Bytes:
    """Scale values so that ``black`` is 0 and ``white`` 255; rounds, and clips values outside."""
    if values.dtype == np.uint8 and (black, white) == (0.0, 255.0):
        return values.astype(np.uint8, copy=False)
    # float64 holds every 32-bit integer exactly; for 16 bits float32 suffices.
    scaled: npt.NDArray[Any] = values.astype(
        np.float32 if values.dtype.itemsize <= 2 else np.float64
    )
    scaled -= black
    scaled *= 255.0 / (white - black)
    np.rint(scaled, out=scaled)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)


def note_of(values: Array, white: float) -> Sequence[str]:
    """Return notes about a range that had to be guessed; none for bytes."""
    if values.dtype == np.uint8 and white == 255:
        return ()
    return (f"values of type {values.dtype} up to {white:g} scaled to 0..255",)
