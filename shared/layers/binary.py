"""Incomplete binary layers: weights and inputs are -1/+1, input channel i counts g_i times.

    y_j = sum over i < n of g_i * sum over the kernel of sign(w_ji) * x_i,   j < m

n is the number of channels of the input that came, m the number of outputs asked for: both are
sliced, nothing is multiplied by zero. Coefficients are integers, so every y is an exact integer in
float32 too, whatever the order of summation. Source: "B-Conv" and "B-FC" of arXiv 1710.07830.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.layers.sign import sign
from shared.profiles import coefficients, quantise

# Latent weights start near 0, so that the first steps can still flip them.
INITIAL_REACH = 0.1
PADDING_VALUE = -1.0  # bit 0: the packed runtime then needs no correction at the border


def incomplete_binary_linear(
    x: Tensor, weight: Tensor, coefficients: Tensor, out_features: int | None = None
) -> Tensor:
    """Shapes: x (B, n), weight (M, N) latent, coefficients (N,) -> (B, m); n <= N, m <= M."""
    n = x.shape[1]
    binary = sign(weight[:out_features, :n]) * coefficients[:n]
    return F.linear(x, binary)


def incomplete_binary_conv2d(
    x: Tensor,
    weight: Tensor,
    coefficients: Tensor,
    stride: int = 1,
    padding: int = 0,
    out_channels: int | None = None,
) -> Tensor:
    """Shapes: x (B, n, H, W), weight (M, N, kh, kw) latent -> (B, m, H', W'); n <= N, m <= M.

    The border is padded with -1.
    """
    n = x.shape[1]
    binary = sign(weight[:out_channels, :n]) * coefficients[:n].view(1, -1, 1, 1)
    if padding:
        x = F.pad(x, (padding,) * 4, value=PADDING_VALUE)
    return F.conv2d(x, binary, stride=stride)


class IncompleteBinaryLinear(nn.Module):
    """Binary linear layer whose input features are ordered by ``profile``.

    ``forward(x, out_features=None)``: x (B, n) of -1/+1 -> (B, out_features), integers.
    """

    coefficients: Tensor

    def __init__(self, in_features: int, out_features: int, profile: str = "linear") -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(
            torch.empty(out_features, in_features).uniform_(-INITIAL_REACH, INITIAL_REACH)
        )
        integers = quantise(coefficients(profile, in_features))
        self.register_buffer("coefficients", torch.tensor(integers, dtype=torch.float32))

    def forward(self, x: Tensor, out_features: int | None = None) -> Tensor:
        """Sums of the first ``out_features`` outputs over the inputs that came."""
        return incomplete_binary_linear(x, self.weight, self.coefficients, out_features)


class IncompleteBinaryConv2d(nn.Module):
    """Binary convolution whose input channels are ordered by ``profile``; padded with -1.

    ``forward(x, out_channels=None)``: x (B, n, H, W) of -1/+1 -> (B, out_channels, H', W'),
    integers.
    """

    coefficients: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        profile: str = "linear",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.padding = padding
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, height, width).uniform_(
                -INITIAL_REACH, INITIAL_REACH
            )
        )
        integers = quantise(coefficients(profile, in_channels))
        self.register_buffer("coefficients", torch.tensor(integers, dtype=torch.float32))

    def forward(self, x: Tensor, out_channels: int | None = None) -> Tensor:
        """Sums of the first ``out_channels`` outputs over the input channels that came."""
        return incomplete_binary_conv2d(
            x, self.weight, self.coefficients, self.stride, self.padding, out_channels
        )
