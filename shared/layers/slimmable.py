"""Switchable batch norm of float networks: a set of statistics, scale and shift for each level.

Source: Yu et al., "Slimmable Neural Networks" (arXiv 1812.08928). Binary networks have one of their
own (``SwitchableBatchNorm``), exact to the integer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM = 0.1


class SlimmableBatchNorm(nn.Module):
    """Batch norm whose leading channels are normalised with the set of a level.

    ``y = (x - mean) / sqrt(var + eps) * scale + shift``, by the batch in training, by running
    statistics in evaluation. A set belongs to a level, not to a width: at a width that has no
    level of its own the leading statistics of a wider one serve, as in the paper. While
    ``calibrating``, statistics are the mean over the batches since ``reset``. With ``by_batch``,
    evaluation too normalises by the batch at hand, and the running statistics stay as they are.

    ``forward(x, level)``: x (B, n, ...) -> the same shape; n <= num_features.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, num_features: int, levels: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        # A parameter a level: those of levels that took no part in a step have no gradient, and an
        # optimiser leaves them alone.
        self.scale = nn.ParameterList(nn.Parameter(torch.ones(num_features)) for _ in range(levels))
        self.shift = nn.ParameterList(
            nn.Parameter(torch.zeros(num_features)) for _ in range(levels)
        )
        self.register_buffer("mean", torch.zeros(levels, num_features))
        self.register_buffer("var", torch.ones(levels, num_features))
        self.calibrating = False
        self.by_batch = False
        self._batches = 0

    def forward(self, x: Tensor, level: int = 0) -> Tensor:
        """Normalise the channels that came."""
        n = x.shape[1]
        scale, shift = self.scale[level][:n], self.shift[level][:n]
        if self.by_batch:
            return F.batch_norm(x, None, None, scale, shift, training=True, eps=self.eps)
        momentum = MOMENTUM
        if self.calibrating:
            self._batches += 1
            momentum = 1 / self._batches
        return F.batch_norm(
            x,
            self.mean[level, :n],
            self.var[level, :n],
            scale,
            shift,
            training=self.training or self.calibrating,
            momentum=momentum,
            eps=self.eps,
        )

    def reset(self) -> None:
        """Begin the mean of the next calibration."""
        self._batches = 0

    @torch.no_grad()
    def copy_level(self, source: int, target: int, other: SlimmableBatchNorm | None = None) -> None:
        """Start the set of ``target`` from that of ``source``, here or in ``other``."""
        giver = other or self
        for sets, given in (
            (self.scale, giver.scale),
            (self.shift, giver.shift),
            (self.mean, giver.mean),
            (self.var, giver.var),
        ):
            sets[target].copy_(given[source])
