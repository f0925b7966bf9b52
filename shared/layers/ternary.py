"""The ternary activation: the sum of two signs with thresholds around 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from shared.layers.sign import plain_sign, straight_through


class _TernarySign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor) -> Tensor:
        ctx.save_for_backward(x, delta)
        d = _against(delta, x)
        return plain_sign(x - d) + plain_sign(x + d)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, delta = ctx.saved_tensors
        d = _against(delta, x)
        upper = straight_through(grad, x - d)
        lower = straight_through(grad, x + d)
        dims = [0, *range(2, x.dim())]
        return upper + lower, (lower - upper).sum(dims).to(delta.dtype)


def ternary_sign(x: Tensor, delta: Tensor) -> Tensor:
    """Return sign(x - delta) + sign(x + delta): -2, 0 or +2, for x (B, n, ...), delta (n,) >= 0.

    For the next layer these are two bits with the same weight. The gradient is the sum of those of
    the two signs (the clipped straight-through estimator of ``sign``); delta's is summed over all
    dimensions but the channels.
    """
    result: Tensor = _TernarySign.apply(x, delta)  # type: ignore[no-untyped-call]
    return result


def _against(delta: Tensor, x: Tensor) -> Tensor:
    # (n,) -> (n, 1, ...) to stand against the channels of x
    return delta.to(x.dtype).view(-1, *(1,) * (x.dim() - 2))
