"""The incomplete convolution: it computes the first m outputs from the first n input channels.

    y_j = sum over i < n of g_i * (w_ji convolved with x_i) + b_j,   j < m

Weights are sliced to both, so nothing is multiplied by zero. Gradients are those of this sum;
weights outside of the slice have none. Source: "Conv" of arXiv 1710.07830.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from shared.layers.leading import ProfileLike, add_coefficients, leading

Size = int | tuple[int, int]


def incomplete_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    coefficients: Tensor | None = None,
    out_channels: int | None = None,
    groups: int = 1,
    **sliding: Any,
) -> Tensor:
    """Compute x (B, n, H, W), weight (M, N / groups, kh, kw) -> (B, m, H', W'); n <= N, m <= M.

    ``coefficients`` (N,) are 1 by default. ``sliding`` holds stride, padding and dilation as in
    ``torch.nn.functional.conv2d``. With ``groups``, n and m must be whole leading groups, and m is
    by default the number of outputs of the given groups.
    """
    n, in_group, out_group = x.shape[1], weight.shape[1], weight.shape[0] // groups
    if groups == 1:
        m = leading(n, in_group, out_channels, weight.shape[0])
    else:
        came = n // in_group
        m = leading(n, in_group * groups, out_channels or came * out_group, came * out_group)
        if n % in_group or m % out_group:
            raise ValueError(
                f"groups: {n} inputs and {m} outputs are no whole groups of {in_group} inputs and "
                f"{out_group} outputs"
            )
        groups = m // out_group
        n = groups * in_group
        x = x[:, :n]
    w = weight[:m, :n]
    if coefficients is not None:
        # (n,) -> (groups, 1, n / groups), then a row for each output: (m, n / groups, 1, 1)
        rows = coefficients[:n].view(groups, 1, -1).expand(-1, m // groups, -1)
        w = w * rows.reshape(m, -1, 1, 1)
    b = None if bias is None else bias[:m]
    return F.conv2d(x, w, b, groups=groups, **sliding)


class IncompleteConv2d(nn.Conv2d):
    """``nn.Conv2d``, with its arguments, whose input channels are ordered by ``profile``.

    ``forward(x, out_channels=None)``: x (B, n, H, W) -> (B, out_channels, H', W').
    """

    coefficients: Tensor
    all_one: bool
    parameter_bits = 32

    def __init__(self, *conv2d: Any, profile: ProfileLike = "linear", **options: Any) -> None:
        super().__init__(*conv2d, **options)
        if self.padding_mode != "zeros":
            raise ValueError(
                f"padding_mode: {self.padding_mode!r} is not supported; only 'zeros' is"
            )
        add_coefficients(self, profile, self.in_channels, self.weight)

    def forward(self, input: Tensor, out_channels: int | None = None) -> Tensor:
        """Compute the first ``out_channels`` outputs (default: all) from the given input
        channels.
        """
        return incomplete_conv2d(
            input,
            self.weight,
            self.bias,
            None if self.all_one else self.coefficients,
            out_channels,
            self.groups,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )

    def used(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """See ``Counted``."""
        columns = inputs if self.groups == 1 else self.in_channels // self.groups
        blocks: dict[str, tuple[int, ...]] = {"weight": (outputs, columns, *self.kernel_size)}
        return blocks if self.bias is None else {**blocks, "bias": (outputs,)}

    def macs(self, x: Sequence[int], y: Sequence[int]) -> int:
        """See ``Counted``."""
        columns = x[1] if self.groups == 1 else self.in_channels // self.groups
        return math.prod(y) * columns * math.prod(self.kernel_size)
