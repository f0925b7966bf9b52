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

INITIAL_DELTA = 0.5  # in standard deviations of a normalised sum: about 40 % of values are 0


class BinaryStage(nn.Module):
    """A stage without its activation: convolution, max pooling or a stride, batch norm.

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
        # For each channel: normalised sums between -delta and delta become 0.
        self.delta = (
            nn.Parameter(torch.full((stage.out_channels,), INITIAL_DELTA)) if ternary else None
        )

    def sums(self, x: Tensor, out_channels: int) -> Tensor:
        """Compute pooled integer sums before the batch norm: -> (B, out_channels, H', W').

        They are exact in evaluation, where autocast is disabled.
        """
        if self.training:
            return self._sums(x, out_channels)
        with torch.autocast(x.device.type, enabled=False):
            return self._sums(x, out_channels)

    def forward(self, x: Tensor, out_channels: int, level: int) -> Tensor:
        """Compute normalised sums, the input of ``activate``."""
        return self.normalise(self.sums(x, out_channels), level)

    def normalise(self, sums: Tensor, level: int) -> Tensor:
        """Apply the batch norm to pooled sums with the statistics of ``level``."""
        y: Tensor = self.norm(sums, level)
        return y

    def activate(self, y: Tensor) -> Tensor:
        """Convert normalised sums (B, n, ...) to -1/+1, or -2/0/+2 if the stage is ternary.

        The result has the type of y, so that autocast need not convert it, but for exact float64
        the type of the weights.
        """
        x = sign(y) if self.delta is None else ternary_sign(y, self.delta[: y.shape[1]])
        return x.to(self.conv.weight.dtype) if x.dtype == torch.float64 else x

    def _sums(self, x: Tensor, out_channels: int) -> Tensor:
        x = self.conv(x, out_channels)
        return F.max_pool2d(x, self.stage.pool) if self.stage.pool > 1 else x


class Step(NamedTuple):
    """A stage at one level: the number of outputs, and the index of its statistics."""

    stage: BinaryStage
    outputs: int
    table: int

    def sums(self, x: Tensor) -> Tensor:
        """Compute the stage's pooled sums."""
        return self.stage.sums(x, self.outputs)

    def normalised(self, x: Tensor) -> Tensor:
        """Compute the stage's normalised sums, which are the logits for the last stage."""
        y: Tensor = self.stage(x, self.outputs, self.table)
        return y

    def run(self, x: Tensor) -> Tensor:
        """Compute the input of the next stage."""
        return self.stage.activate(self.normalised(x))
