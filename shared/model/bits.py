"""The bit order used everywhere: value i is bit i % 8 of byte i // 8, bit 0 the lowest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


def pack(bits: npt.ArrayLike) -> Bytes:
    """Pack the last axis: (..., n) of booleans -> (..., ceil(n / 8)), with unused bits 0."""
    return np.packbits(np.asarray(bits, dtype=bool), axis=-1, bitorder="little")


def unpack(packed: Bytes, count: int) -> Bits:
    """Undo ``pack``: (..., ceil(count / 8)) -> (..., count)."""
    return np.unpackbits(packed, axis=-1, count=count, bitorder="little").astype(bool)


def unused_bits_are_zero(packed: Bytes, count: int) -> bool:
    """Whether the bits after the first ``count`` are 0 in every row of ``packed``."""
    spare = packed.shape[-1] * 8 - count
    return spare == 0 or not np.any(packed[..., -1] >> (8 - spare))
