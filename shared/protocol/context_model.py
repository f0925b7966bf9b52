"""The context model: how probable each bit of a map is, given the bits before it.

A small integer network shared by all pixels and all device levels of a bundle. For the pixel at
(y, x), its hidden units start from a base of the place and the level, add a row of weights for
every 1 among the bits of four neighbours (left, up, up-left, up-right), and then for every 1 among
the channels of this pixel, as those become known. The bit of channel c is 1 with

    probability = sigmoid((sum_i clip(hidden_i, 0, 127) * output_ci + bias_c) / 2048)

from a table of 1,024 values. All sums are exact integers, so that encoder and decoder agree on
every machine. It is NADE (Larochelle and Murray, "The Neural Autoregressive Distribution
Estimator", 2011) over the channels of a pixel, with weights shared over pixels as in PixelCNN (van
den Oord et al., "Pixel Recurrent Neural Networks", 2016). ``cloud.training.split.context`` trains
it.
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
HIDDEN_STEP = 8  # hidden units come in whole vectors
MOST_HIDDEN = 64
MOST_BASE_VALUES = 2**22  # of a level's base; bounds what a small file can make a reader allocate
LARGEST_ACTIVATION = 127
HIDDEN_SCALE = 64  # hidden units count 1/64; output weights count 1/32
OUTPUT_SCALE = 32
LOGIT_SHIFT = 5  # the table's steps are 2**5 / (64 * 32) = 1/64
LARGEST_SUM = 2**15 - 1


def _probabilities(count: int = 1024) -> npt.NDArray[np.uint16]:
    """Probability of a 1, in 1/65536, of logits (i - count / 2 + 1/2) / 64.

    No value lies within 1e-6 of where rounding would change, which is why every machine's ``exp``
    gives this table (a test checks it).
    """
    steps = (count // 2 - 0.5 - i for i in range(count))
    return np.array([round(65536 / (1 + math.exp(step / 64))) for step in steps], np.uint16)


PROBABILITIES = _probabilities()


def _least_bits() -> float:
    """The fewest bits that a range coder spends on a bit under the most certain prediction.

    Its ranges are at least 2^24, so that a bit's share of them is right to one part in 256.
    """
    one = PROBABILITIES.max() / 65536
    zero = 1.0 - PROBABILITIES.min() / 65536 * 255 / 256
    return -math.log2(max(one, zero))


LEAST_BITS = _least_bits()
TAIL_BYTES = 4  # an encoder leaves out at most this much at the end


@dataclass(frozen=True)
class ContextTables:
    """The integers of one device level, as a coder reads them.

    base         int16 (H * W, hidden): of every pixel
    neighbour    int16 (4 * channels, hidden): in the order of ``NEIGHBOURS``
    channel      int16 (channels, hidden)
    output       int16 (channels, hidden)
    bias         int32 (channels,), in 1/2048
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
        """How many bits a pixel has."""
        return len(self.bias)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one packed sample."""
        return -(-self.height * self.width * self.channels // 8)


@dataclass(frozen=True)
class ContextModel:
    """The model as a bundle holds it, for maps of full width C and L device levels.

    weight  int8 (6 * C + H + W + L, hidden): the rows of four neighbours (4 * C), of the channels
            (C), of the outputs (C), of the map's rows (H), its columns (W), the levels (L)
    bias    int16 (L, C), in 1/2048
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
        """The integers of one device level; ``BundleError`` if their sums could overflow."""
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
    """The context model of ``bundle``, or None if it has none; ``BundleError`` if it is wrong."""
    weight, bias = bundle.tensors.get(WEIGHT), bundle.tensors.get(BIAS)
    if weight is None or bias is None:
        return None
    return ContextModel(bundle.architecture, weight, bias)
