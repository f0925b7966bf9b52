"""Blocks of an incomplete layer, batch norm and activation.

Source: section III of arXiv 1710.07830. A ``complete`` block takes all inputs with coefficients of
1 at every fraction, and draws no fraction of its own in training; it still computes only the
outputs that the next block uses. A block with ``all_outputs`` computes all outputs, because a
complete block follows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.fractions import channels
from shared.layers.conv import IncompleteConv2d
from shared.layers.leading import ProfileLike
from shared.layers.linear import IncompleteLinear
from shared.layers.separable import IncompleteDepthwiseSeparableConv2d
from shared.layers.slimmable import SlimmableBatchNorm
from shared.networks.incomplete import Block, Scheme, Width

# Random fractions give convolutions new shapes in every step, and a GPU has to prepare a kernel for
# each. In training on a GPU, channel counts are therefore rounded up to multiples of this number.
# Added inputs are 0 and added outputs are dropped, so the result is the same.
GPU_CHANNELS = 64


def in_few_shapes(conv: IncompleteConv2d, x: Tensor, m: int, multiple: int) -> Tensor:
    """Compute conv(x, m) with channel counts rounded up: (B, n, H, W) -> (B, m, H, W)."""
    n, asked = (-(-count // multiple) * multiple for count in (x.shape[1], m))
    missing = min(n, conv.in_channels) - x.shape[1]
    if missing:
        x = F.pad(x, (0, 0, 0, 0, 0, missing))
    y: Tensor = conv(x, min(asked, conv.out_channels))
    return y[:, :m]


class ConvBlock(Block):
    """Conv: 3x3 convolution, batch norm, ReLU, and optionally 2x2 max pooling and dropout.

    ReLU is applied after the pooling, which gives the same values for a quarter of the work. Odd
    sides are rounded up, so that no map vanishes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scheme: Scheme,
        *,
        pool: bool = False,
        complete: bool = False,
        all_outputs: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs = None if complete else in_channels
        self.conv = IncompleteConv2d(
            in_channels,
            out_channels,
            3,
            padding=1,
            bias=False,
            profile=_profile(scheme, complete),
        )
        self.norm = SlimmableBatchNorm(out_channels, len(scheme.levels))
        self.pool = pool
        self.all_outputs = all_outputs
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, width: Width) -> Tensor:
        """(B, n, H, W) -> (B, m, H, W), half as high and wide, rounded up, if pooled."""
        m = self.conv.out_channels
        m = m if self.all_outputs else channels(width.fraction, m)
        if x.is_cuda and torch.is_grad_enabled():
            y = in_few_shapes(self.conv, x, m, GPU_CHANNELS)
        else:
            y = self.conv(x, m)
        y = self.norm(y, width.level)
        y = F.relu(F.max_pool2d(y, 2, ceil_mode=True) if self.pool else y)
        dropped: Tensor = self.dropout(y)
        return dropped


class SeparableBlock(Block):
    """S-Conv: depthwise 3x3, batch norm, ReLU, pointwise, batch norm, ReLU.

    The norm between the two parts is MobileNet's (arXiv 1704.04861).
    """

    def __init__(
        self, in_channels: int, out_channels: int, scheme: Scheme, *, stride: int = 1
    ) -> None:
        super().__init__()
        self.inputs = in_channels
        self.conv = IncompleteDepthwiseSeparableConv2d(
            in_channels,
            out_channels,
            3,
            stride,
            padding=1,
            bias=False,
            profile=_profile(scheme, complete=False),
        )
        self.out_channels = out_channels
        self.between = SlimmableBatchNorm(in_channels, len(scheme.levels))
        self.norm = SlimmableBatchNorm(out_channels, len(scheme.levels))

    def forward(self, x: Tensor, width: Width) -> Tensor:
        """(B, n, H, W) -> (B, m, H / stride, W / stride)."""
        m = channels(width.fraction, self.out_channels)

        def between(z: Tensor) -> Tensor:
            return F.relu(self.between(z, width.level))

        return F.relu(self.norm(self.conv(x, m, between), width.level))


class LinearBlock(Block):
    """FC: linear layer, batch norm, ReLU, dropout; its input is flattened.

    Without ``norm`` the linear layer has a bias instead.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        scheme: Scheme,
        *,
        complete: bool = False,
        all_outputs: bool = False,
        dropout: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.inputs = None if complete else in_features
        self.linear = IncompleteLinear(
            in_features, out_features, bias=not norm, profile=_profile(scheme, complete)
        )
        self.norm = SlimmableBatchNorm(out_features, len(scheme.levels)) if norm else None
        self.dropout = nn.Dropout(dropout)
        self.all_outputs = all_outputs

    def forward(self, x: Tensor, width: Width) -> Tensor:
        """(B, n, ...) -> (B, m)."""
        features = self.linear.out_features
        m = features if self.all_outputs else channels(width.fraction, features)
        y: Tensor = self.linear(x.flatten(1), m)
        if self.norm is not None:
            y = self.norm(y, width.level)
        dropped: Tensor = self.dropout(F.relu(y))
        return dropped


class MeanOverMap(Block):
    """The mean of each channel over its map, then dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, width: Width) -> Tensor:  # noqa: ARG002
        """(B, n, H, W) -> (B, n)."""
        y: Tensor = self.dropout(x.mean((2, 3)))
        return y


class Classifier(Block):
    """The last layer, which computes all outputs and has neither batch norm nor activation."""

    def __init__(
        self, in_features: int, classes: int, scheme: Scheme, *, complete: bool = False
    ) -> None:
        super().__init__()
        self.inputs = None if complete else in_features
        self.linear = IncompleteLinear(in_features, classes, profile=_profile(scheme, complete))

    def forward(self, x: Tensor, width: Width) -> Tensor:  # noqa: ARG002
        """(B, n) -> (B, classes)."""
        logits: Tensor = self.linear(x)
        return logits


def _profile(scheme: Scheme, complete: bool) -> ProfileLike:
    return "all-one" if complete else scheme.coefficients
