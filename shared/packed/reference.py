"""One stage in numpy: the readable reference that other implementations must match bit for bit.

Sums are float32 matrix products of small integers. They are exact in any order of summation,
because every partial sum is an integer below 2**24 (stages with larger sums are refused).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError
from shared.model.architecture import Activation, Kind, Shape, Stage, kernel_size
from shared.model.bits import unpack
from shared.model.stage_tensors import StageTensors, largest_input, largest_sum

Floats = npt.NDArray[np.float32]

EXACT_INTEGERS = 2**24  # float32 holds every integer up to this one
IMAGES_AT_A_TIME = 32  # limits the memory of the unfolded patches


class ReferenceStage:
    """One stage of a network, ready to run on any number of leading channels.

    ``before`` is the activation of the stage that makes its input.
    """

    def __init__(
        self,
        stage: Stage,
        shape: Shape,
        tensors: StageTensors,
        before: Activation = Activation.BINARY,
    ) -> None:
        self.stage = stage
        self.tensors = tensors
        self.kernel = kernel_size(stage, shape)
        height, width = self.kernel
        count = height * width * stage.in_channels
        # (out, kh * kw * in) -> (out, kh, kw, in) -> (kh, kw, in, out)
        binary = signs(unpack(tensors.weight, count)).reshape(
            stage.out_channels, height, width, stage.in_channels
        )
        weights = binary.transpose(1, 2, 3, 0) * tensors.coefficients[:, None]
        self._weights = weights.astype(np.float32)
        self._border = 0.0 if stage.kind is Kind.IMAGE_CONV else -largest_input(stage, before)
        largest = largest_sum(tensors.coefficients, stage, shape, before)
        if largest >= EXACT_INTEGERS:
            raise BundleError(f"stage {stage.name}: sums up to {largest} exceed 2**24")
        self._matrix = lru_cache(maxsize=64)(self._cut)

    def sums(self, x: Floats, out_channels: int) -> npt.NDArray[np.int32]:
        """Compute pooled sums: x (B, H, W, n), pixels or ``values`` -> (B, H', W',
        out_channels).
        """
        matrix = self._matrix(x.shape[3], out_channels)
        parts = [
            self._pooled(x[start : start + IMAGES_AT_A_TIME], matrix)
            for start in range(0, max(len(x), 1), IMAGES_AT_A_TIME)
        ]
        return np.concatenate(parts).astype(np.int32)

    def bits(self, sums: npt.NDArray[np.int32], table: int) -> npt.NDArray[np.bool_]:
        """Compare sums (B, H, W, m) with row ``table`` of the thresholds: -> bits, same shape."""
        return self._reached(sums, self.tensors.threshold[table], table)

    def values(self, sums: npt.NDArray[np.int32], table: int) -> Floats:
        """Convert sums to the next stage's input: -1/+1, or -2/0/+2 if ternary; same shape."""
        values = signs(self.bits(sums, table))
        if self.stage.activation is Activation.TERNARY:
            values += signs(self._reached(sums, self.tensors.low_threshold[table], table))
        return values

    def logits(self, sums: npt.NDArray[np.int32], table: int) -> Floats:
        """Compute logits (B, m) from sums (B, 1, 1, m) with row ``table`` of scale and bias."""
        m = sums.shape[3]
        flat = sums.reshape(len(sums), m).astype(np.float32)
        return flat * self.tensors.scale[table, :m] + self.tensors.bias[table, :m]

    def _reached(
        self, sums: npt.NDArray[np.int32], threshold: npt.NDArray[np.int32], table: int
    ) -> npt.NDArray[np.bool_]:
        m = sums.shape[3]
        flip = self.tensors.flip[table, :m].astype(bool)
        bits: npt.NDArray[np.bool_] = (sums >= threshold[:m]) ^ flip
        return bits

    def _cut(self, in_channels: int, out_channels: int) -> Floats:
        # (kh, kw, in, out) -> (kh * kw * n, m)
        return self._weights[:, :, :in_channels, :out_channels].reshape(-1, out_channels)

    def _pooled(self, x: Floats, matrix: Floats) -> Floats:
        if self.stage.kind is Kind.BINARY_LINEAR:
            # (B, H, W, n) -> (B, H * W * n) -> (B, 1, 1, m)
            return (x.reshape(len(x), matrix.shape[0]) @ matrix)[:, None, None, :]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=self._border)
        # (B, H, W, n, kh, kw) -> (B, H, W, kh, kw, n) -> (B, H, W, kh * kw * n)
        patches = np.lib.stride_tricks.sliding_window_view(padded, self.kernel, axis=(1, 2))
        patches = patches[:, :: self.stage.stride, :: self.stage.stride]
        patches = patches.transpose(0, 1, 2, 4, 5, 3)
        patches = patches.reshape(*patches.shape[:3], matrix.shape[0])
        return max_pool(patches @ matrix, self.stage.pool)


def signs(bits: npt.NDArray[np.bool_]) -> Floats:
    """Convert bits to -1 or +1, same shape."""
    return np.where(bits, np.float32(1), np.float32(-1))


def max_pool(x: Floats, side: int) -> Floats:
    """Take the maximum over side x side windows: (B, H, W, m) -> (B, H // side, W // side, m)."""
    if side == 1:
        return x
    batch, height, width, m = x.shape
    rows, columns = height // side, width // side
    # (B, H, W, m) -> (B, rows, side, columns, side, m)
    windows = x[:, : rows * side, : columns * side].reshape(batch, rows, side, columns, side, m)
    pooled: Floats = windows.max(axis=(2, 4))
    return pooled
