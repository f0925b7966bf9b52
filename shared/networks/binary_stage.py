"""One stage of a split binary network: convolution, pooling, batch norm and activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.layers.binary import IncompleteBinaryConv2d
from shared.layers.norm import SwitchableBatchNorm
from shared.layers.sign import sign
from shared.layers.ternary import ternary_sign
from shared.model.architecture import Activation, Kind, Shape, Stage, kernel_size

INITIAL_DELTA = 0.5  # of a normalised sum's deviation: some 4 of 10 values start as 0


class BinaryStage(nn.Module):
    """Convolution, max pooling or a stride, batch norm: all of a stage but its activation.

    ``forward(x, out_channels, level)``: x (B, n, H, W) -> (B, out_channels, H', W'). ``before`` is
    the activation of the stage that made x.
    """

    def __init__(
        self,
        stage: Stage,
        shape: Shape,
        affine_of: Sequence[int | Sequence[int]],
        before: Activation = Activation.BINARY,
    ) -> None:
        super().__init__()
        self.stage = stage
        image, linear = (stage.kind is kind for kind in (Kind.IMAGE_CONV, Kind.BINARY_LINEAR))
        self.conv = IncompleteBinaryConv2d(
            stage.in_channels,
            stage.out_channels,
            kernel_size(stage, shape),
            stage.stride,
            padding=0 if linear else 1,
            profile="all-one" if image else stage.profile,
            padding_value=0 if image else -before.largest,
        )
        self.norm = SwitchableBatchNorm(stage.out_channels, affine_of)
        ternary = stage.activation is Activation.TERNARY
        # Half the width of the band of normalised sums that becomes 0, for each channel.
        self.delta = (
            nn.Parameter(torch.full((stage.out_channels,), INITIAL_DELTA)) if ternary else None
        )

    def sums(self, x: Tensor, out_channels: int) -> Tensor:
        """Pooled integer sums before the batch norm. (B, n, H, W) -> (B, out_channels, H', W').

        Exact in evaluation, where autocast is set aside.
        """
        if self.training:
            return self._sums(x, out_channels)
        with torch.autocast(x.device.type, enabled=False):
            return self._sums(x, out_channels)

    def forward(self, x: Tensor, out_channels: int, level: int) -> Tensor:
        """Normalised sums, from which ``activate`` makes the next stage's input."""
        return self.normalise(self.sums(x, out_channels), level)

    def normalise(self, sums: Tensor, level: int) -> Tensor:
        """Batch norm of pooled sums with the statistics of ``level``."""
        y: Tensor = self.norm(sums, level)
        return y

    def activate(self, y: Tensor) -> Tensor:
        """Normalised sums (B, n, ...) -> -1/+1, or -2/0/+2 if the stage is ternary.

        In the type of y, so that autocast converts nothing; of exact float64, that of the weights.
        """
        x = sign(y) if self.delta is None else ternary_sign(y, self.delta[: y.shape[1]])
        return x.to(self.conv.weight.dtype) if x.dtype == torch.float64 else x

    def _sums(self, x: Tensor, out_channels: int) -> Tensor:
        x = self.conv(x, out_channels)
        return F.max_pool2d(x, self.stage.pool) if self.stage.pool > 1 else x


class Step(NamedTuple):
    """A stage at one level: how many outputs it computes, and the row of its statistics."""

    stage: BinaryStage
    outputs: int
    table: int

    def sums(self, x: Tensor) -> Tensor:
        """Pooled sums."""
        return self.stage.sums(x, self.outputs)

    def normalised(self, x: Tensor) -> Tensor:
        """Normalised sums; of the last stage they are the logits."""
        y: Tensor = self.stage(x, self.outputs, self.table)
        return y

    def run(self, x: Tensor) -> Tensor:
        """What the next stage takes."""
        return self.stage.activate(self.normalised(x))
