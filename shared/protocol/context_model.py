"""The context model: the probability of each bit of a map, given the bits before it.

It is a small integer network shared by all pixels and all device levels of a bundle. For the pixel
at (y, x), the hidden units start from a base that depends on position and level. A row of weights
is added for every 1 among the bits of four neighbours (left, up, up-left, up-right), and for every
1 among the channels of this pixel that are known already. The bit of channel c is 1 with

    probability = sigmoid((sum_i clip(hidden_i, 0, 127) * output_ci + bias_c) / 2048)

taken from a table of 1,024 values. All sums are exact integers, so that encoder and decoder agree
on every machine. The model is a NADE (Larochelle and Murray, "The Neural Autoregressive
Distribution Estimator", 2011) over the channels of a pixel, with weights shared over pixels as in
PixelCNN (van den Oord et al., "Pixel Recurrent Neural Networks", 2016). It is trained by
``cloud.training.split.context``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError
from shared.model.architecture import Architecture
from shared.model.bundle import Bundle

WEIGHT = "codec.context.weight"
BIAS = "codec.context.bias"

NEIGHBOURS = ((0, -1), (-1, 0), (-1, -1), (-1, 1))  # (rows, columns) from the pixel, in order
HIDDEN_STEP = 8  # the number of hidden units is a multiple of this, for vector instructions
MOST_HIDDEN = 64
MOST_BASE_VALUES = 2**22  # of a level's base; limits what a small file can make readers allocate
LARGEST_ACTIVATION = 127
HIDDEN_SCALE = 64  # hidden units are in units of 1/64, output weights in units of 1/32
OUTPUT_SCALE = 32
LOGIT_SHIFT = 5  # steps of the table are 2**5 / (64 * 32) = 1/64
LARGEST_SUM = 2**15 - 1


def _probabilities(count: int = 1024) -> npt.NDArray[np.uint16]:
    """Return the probability of a 1, in units of 1/65536, for logits (i - count / 2 + 1/2) / 64.

    No value is within 1e-6 of a rounding boundary, so every machine's ``exp`` gives the same table
    (a test checks it).
    """
    steps = (count // 2 - 0.5 - i for i in range(count))
    return np.array([round(65536 / (1 + math.exp(step / 64))) for step in steps], np.uint16)


PROBABILITIES = _probabilities()


def _least_bits() -> float:
    """Return the fewest bits that the range coder can use for a bit.

    Its ranges are at least 2^24, so a bit's share of the range is exact to one part in 256.
    """
    one = PROBABILITIES.max() / 65536
    zero = 1.0 - PROBABILITIES.min() / 65536 * 255 / 256
    return -math.log2(max(one, zero))


LEAST_BITS = _least_bits()
TAIL_BYTES = 4  # most bytes that an encoder leaves out at the end


@dataclass(frozen=True)
class ContextTables:
    """The model's integers for one device level, as a coder reads them.

    base         int16 (H * W, hidden): start values for every pixel
    neighbour    int16 (4 * channels, hidden): weights of neighbours, in the order of ``NEIGHBOURS``
    channel      int16 (channels, hidden): weights of the pixel's own channels
    output       int16 (channels, hidden): output weights
    bias         int32 (channels,): output biases, in units of 1/2048
    """

    height: int
    width: int
    base: npt.NDArray[np.int16]
    neighbour: npt.NDArray[np.int16]
    channel: npt.NDArray[np.int16]
    output: npt.NDArray[np.int16]
    bias: npt.NDArray[np.int32]

    @property
    def channels(self) -> int:
        """Number of bits of a pixel."""
        return len(self.bias)

    @property
    def sample_bytes(self) -> int:
        """Number of bytes of a packed sample."""
        return -(-self.height * self.width * self.channels // 8)


@dataclass(frozen=True)
class ContextModel:
    """The model as stored in a bundle, for maps of full width C and L device levels.

    weight  int8 (6 * C + H + W + L, hidden): rows for the four neighbours (4 * C), the channels
            (C), the outputs (C), the map's rows (H) and columns (W), and the levels (L)
    bias    int16 (L, C), in units of 1/2048
    """

    architecture: Architecture
    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int16]

    def __post_init__(self) -> None:
        shape = self.architecture.sent_shape(self._levels - 1)
        rows = 6 * shape.channels + shape.height + shape.width + self._levels
        hidden = self.weight.shape[-1] if self.weight.ndim else 0
        right = (
            self.weight.dtype == np.int8
            and self.weight.shape == (rows, hidden)
            and hidden in range(HIDDEN_STEP, MOST_HIDDEN + 1, HIDDEN_STEP)
        )
        if not right:
            raise BundleError(
                f"bundle: {WEIGHT} is {self.weight.dtype}{self.weight.shape}, must be "
                f"int8({rows}, {HIDDEN_STEP} to {MOST_HIDDEN} in steps of {HIDDEN_STEP})"
            )
        size = (self._levels, shape.channels)
        if self.bias.dtype != np.int16 or self.bias.shape != size:
            raise BundleError(
                f"bundle: {BIAS} is {self.bias.dtype}{self.bias.shape}, must be int16{size}"
            )

    @property
    def _levels(self) -> int:
        return len(self.architecture.device_levels)

    def tables(self, level: int) -> ContextTables:
        """Return the integers of one device level; ``BundleError`` if sums could overflow."""
        full = self.architecture.sent_shape(self._levels - 1)
        sent = self.architecture.sent_shape(level)
        values = full.height * full.width * self.weight.shape[1]
        if values > MOST_BASE_VALUES:
            raise BundleError(
                f"bundle: {WEIGHT} needs {values} values for a map of {full.height}x{full.width}; "
                f"{MOST_BASE_VALUES} are allowed"
            )
        edges = np.cumsum([0, *[full.channels] * 6, full.height, full.width])
        parts = np.split(self.weight.astype(np.int16), edges[1:])
        *near, channel, output, rows, columns, levels = parts
        # (H, 1, hidden) + (1, W, hidden) + (hidden) -> (H * W, hidden)
        base = (rows[:, None] + columns + levels[level]).reshape(-1, self.weight.shape[1])
        tables = ContextTables(
            height=sent.height,
            width=sent.width,
            base=np.ascontiguousarray(base),
            neighbour=np.concatenate([part[: sent.channels] for part in near]),
            channel=np.ascontiguousarray(channel[: sent.channels]),
            output=np.ascontiguousarray(output[: sent.channels]),
            bias=self.bias[level, : sent.channels].astype(np.int32),
        )
        reach = np.abs(tables.base).max(axis=0).astype(np.int64)
        reach += sum(np.abs(part.astype(np.int64)).sum(axis=0) for part in (*near, channel))
        if reach.max() > LARGEST_SUM:
            raise BundleError(f"bundle: {WEIGHT} has sums beyond {LARGEST_SUM}")
        return tables


def context_model(bundle: Bundle) -> ContextModel | None:
    """Read the context model of ``bundle``; None if it has none; ``BundleError`` if invalid."""
    weight, bias = bundle.tensors.get(WEIGHT), bundle.tensors.get(BIAS)
    if weight is None or bias is None:
        return None
    return ContextModel(bundle.architecture, weight, bias)
