"""The incomplete linear layer: it computes the first m outputs from the first n inputs.

    y_j = sum over i < n of g_i * w_ji * x_i + b_j,   j < m

Weights are sliced to both, so nothing is multiplied by zero. Gradients are those of this sum;
weights outside of the slice have none. Source: "FC" of arXiv 1710.07830.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.layers.leading import ProfileLike, add_coefficients, leading


def incomplete_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    coefficients: Tensor | None = None,
    out_features: int | None = None,
) -> Tensor:
    """Compute x (..., n), weight (M, N), bias (M,) -> (..., m); n <= N, m <= M.

    ``coefficients`` (N,) are 1 by default.
    """
    n = x.shape[-1]
    m = leading(n, weight.shape[1], out_features, weight.shape[0])
    if coefficients is not None:
        x = x * coefficients[:n]
    return F.linear(x, weight[:m, :n], None if bias is None else bias[:m])


class IncompleteLinear(nn.Linear):
    """``nn.Linear`` whose input features are ordered by ``profile``.

    ``forward(x, out_features=None)``: x (..., n) -> (..., out_features); n <= in_features.
    """

    coefficients: Tensor
    all_one: bool
    parameter_bits = 32

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        profile: ProfileLike = "linear",
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        add_coefficients(self, profile, in_features, self.weight)

    def forward(self, input: Tensor, out_features: int | None = None) -> Tensor:
        """Compute the first ``out_features`` outputs (default: all) from the given inputs."""
        coefficients = None if self.all_one else self.coefficients
        return incomplete_linear(input, self.weight, self.bias, coefficients, out_features)

    def used(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """See ``Counted``."""
        blocks: dict[str, tuple[int, ...]] = {"weight": (outputs, inputs)}
        return blocks if self.bias is None else {**blocks, "bias": (outputs,)}

    def macs(self, x: Sequence[int], y: Sequence[int]) -> int:
        """See ``Counted``."""
        return math.prod(x) * y[-1]
