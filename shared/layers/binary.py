"""Incomplete binary layers: weights are -1/+1, and input channel i has the coefficient g_i.

    y_j = sum over i < n of g_i * sum over the kernel of sign(w_ji) * x_i,   j < m

n is the number of channels of the given input, m the number of requested outputs. Weights are
sliced to both, so nothing is multiplied by zero. Inputs are -1/+1 or small integers
(``ternary_sign``) and coefficients are integers, so every y is an exact integer, also in float32
and in any order of summation. Source: "B-Conv" and "B-FC" of arXiv 1710.07830.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.layers.conv import Size
from shared.layers.leading import ProfileLike, leading, leading_block, resolve
from shared.layers.sign import sign
from shared.profiles import quantise

# Latent weights start near 0, so that the first steps can flip their signs.
INITIAL_REACH = 0.1
PADDING_VALUE = -1.0  # equals bit 0, so the packed runtime needs no correction at the border


def incomplete_binary_linear(
    x: Tensor, weight: Tensor, coefficients: Tensor, out_features: int | None = None
) -> Tensor:
    """Compute x (..., n), latent weight (M, N), coefficients (N,) -> (..., m); n <= N, m <= M."""
    n = x.shape[-1]
    m = leading(n, weight.shape[1], out_features, weight.shape[0])
    return F.linear(x, _signed(leading_block(weight, m, n), coefficients))


def incomplete_binary_conv2d(
    x: Tensor,
    weight: Tensor,
    coefficients: Tensor,
    stride: Size = 1,
    padding: Size = 0,
    out_channels: int | None = None,
    dilation: Size = 1,
    padding_value: float = PADDING_VALUE,
) -> Tensor:
    """Compute x (B, n, H, W), latent weight (M, N, kh, kw) -> (B, m, H', W'); n <= N, m <= M.

    ``coefficients`` is (N,). The border is padded with ``padding_value``, the smallest value of x.
    """
    n = x.shape[1]
    m = leading(n, weight.shape[1], out_channels, weight.shape[0])
    binary = _signed(leading_block(weight, m, n), coefficients)
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    if padding_value and (rows or columns):
        x = F.pad(x, (columns, columns, rows, rows), value=padding_value)
        padding = 0
    return F.conv2d(x, binary, None, stride, padding, dilation)


class IncompleteBinaryLinear(nn.Module):
    """Binary linear layer whose input features are ordered by ``profile``.

    ``forward(x, out_features=None)``: x (..., n) of -1/+1 -> (..., out_features), integers. There
    is no bias, since the batch norm that follows has a shift.
    """

    coefficients: Tensor
    parameter_bits = 1

    def __init__(
        self, in_features: int, out_features: int, profile: ProfileLike = "linear"
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(
            torch.empty(out_features, in_features).uniform_(-INITIAL_REACH, INITIAL_REACH)
        )
        integers = quantise(resolve(profile, in_features))
        self.register_buffer("coefficients", torch.tensor(integers, dtype=torch.float32))

    def forward(self, x: Tensor, out_features: int | None = None) -> Tensor:
        """Compute the first ``out_features`` outputs (default: all) from the given inputs."""
        return incomplete_binary_linear(x, self.weight, self.coefficients, out_features)

    def used(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """See ``Counted``."""
        return {"weight": (outputs, inputs)}

    def macs(self, x: Sequence[int], y: Sequence[int]) -> int:
        """See ``Counted``."""
        return math.prod(x) * y[-1]


class IncompleteBinaryConv2d(nn.Module):
    """Binary convolution whose input channels are ordered by ``profile``.

    ``forward(x, out_channels=None)``: x (B, n, H, W) of -1/+1, padded with ``padding_value`` ->
    (B, out_channels, H', W'), integers. There is no bias, since the batch norm that follows has a
    shift.
    """

    coefficients: Tensor
    parameter_bits = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        *,
        profile: ProfileLike = "linear",
        padding_value: float = PADDING_VALUE,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.padding_value = padding_value
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, height, width).uniform_(
                -INITIAL_REACH, INITIAL_REACH
            )
        )
        integers = quantise(resolve(profile, in_channels))
        self.register_buffer("coefficients", torch.tensor(integers, dtype=torch.float32))

    def forward(self, x: Tensor, out_channels: int | None = None) -> Tensor:
        """Compute the first ``out_channels`` outputs (default: all) from the given input
        channels.
        """
        return incomplete_binary_conv2d(
            x,
            self.weight,
            self.coefficients,
            self.stride,
            self.padding,
            out_channels,
            self.dilation,
            self.padding_value,
        )

    def used(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """See ``Counted``."""
        return {"weight": (outputs, inputs, *self.weight.shape[2:])}

    def macs(self, x: Sequence[int], y: Sequence[int]) -> int:
        """See ``Counted``."""
        return math.prod(y) * x[1] * math.prod(self.weight.shape[2:])


def _signed(weight: Tensor, coefficients: Tensor) -> Tensor:
    """Return sign(weight) times the coefficient of the input channel: (m, n, ...) -> same shape."""
    return sign(weight) * coefficients[: weight.shape[1]].view(1, -1, *[1] * (weight.dim() - 2))
