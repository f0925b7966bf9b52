"""The incomplete depthwise separable convolution: one filter per channel, then a 1x1 convolution.

    z_i = h_i * (v_i convolved with x_i) + a_i,          i < n
    y_j = sum over i < n of g_i * w_ji * z_i + b_j,      j < m

The profile g of the pointwise part orders the channels; a profile h of the depthwise part is
possible too.
Source: "S-Conv" of arXiv 1710.07830.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from shared.layers.conv import IncompleteConv2d, Size
from shared.layers.leading import ProfileLike


class IncompleteDepthwiseSeparableConv2d(nn.Module):
    """A depthwise ``IncompleteConv2d``, then a pointwise one.

    The arguments are those of ``nn.Conv2d``; ``options`` are padding, dilation, device and dtype.
    ``forward(x, out_channels=None, between=None)``: x (B, n, H, W) -> (B, out_channels, H', W');
    ``between`` is applied after the depthwise part, for example a norm and an activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        *,
        bias: bool = True,
        profile: ProfileLike = "linear",
        depthwise_profile: ProfileLike = "all-one",
        **options: Any,
    ) -> None:
        super().__init__()
        self.depthwise = IncompleteConv2d(
            in_channels,
            in_channels,
            kernel_size,
            stride,
            groups=in_channels,
            bias=bias,
            profile=depthwise_profile,
            **options,
        )
        placed = {name: options[name] for name in ("device", "dtype") if name in options}
        self.pointwise = IncompleteConv2d(
            in_channels, out_channels, 1, bias=bias, profile=profile, **placed
        )

    def forward(
        self,
        x: Tensor,
        out_channels: int | None = None,
        between: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Compute the first ``out_channels`` outputs (default: all) from the given input
        channels.
        """
        z = self._each_channel(x)
        y: Tensor = self.pointwise(z if between is None else between(z), out_channels)
        return y

    def _each_channel(self, x: Tensor) -> Tensor:
        z: Tensor
        if self.depthwise.stride in (1, (1, 1)):
            z = self.depthwise(x)
            return z
        # Without autocast, since oneDNN's bfloat16 kernel for the gradient of a strided depthwise
        # convolution takes about twenty times as long as the float32 one.
        with torch.autocast(x.device.type, enabled=False):
            z = self.depthwise(x.to(self.depthwise.weight.dtype))
        return z.to(x.dtype)
