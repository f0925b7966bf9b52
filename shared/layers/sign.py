"""The sign function of binary layers, with the straight-through estimator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        inside: Tensor = grad * (x.abs() <= 1)
        return inside


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1; never 0. Any shape.

    Gradient: dL/dx = dL/dy where abs(x) <= 1, else 0 (the clipped straight-through estimator of
    Courbariaux et al., "Binarized Neural Networks", arXiv 1602.02830).
    """
    result: Tensor = _Sign.apply(x)  # type: ignore[no-untyped-call]
    return result
