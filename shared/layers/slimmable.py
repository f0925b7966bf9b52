"""Switchable batch norm of float networks: a set of statistics, scale and shift for each level.

Source: Yu et al., "Slimmable Neural Networks" (arXiv 1812.08928). Binary networks use
``SwitchableBatchNorm``, which is exact for integers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM = 0.1


class SlimmableBatchNorm(nn.Module):
    """Batch norm that normalises leading channels with the set of a level.

    ``y = (x - mean) / sqrt(var + eps) * scale + shift``, with the batch's statistics in training
    and running statistics in evaluation. A set belongs to a level, not to a width: a width without
    its own level uses the leading statistics of a wider one, as in the paper. While
    ``calibrating``, the statistics become the mean over the batches since ``reset``. With
    ``by_batch``, evaluation uses the batch's statistics too and does not change the running ones.

    ``forward(x, level)``: x (B, n, ...) -> the same shape; n <= num_features.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, num_features: int, levels: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        # One parameter per level, so that levels which took no part in a step have no gradient and
        # are skipped by the optimiser.
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
        """Normalise the given channels with the set of ``level``."""
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
        """Start the mean of the next calibration."""
        self._batches = 0

    @torch.no_grad()
    def copy_level(self, source: int, target: int, other: SlimmableBatchNorm | None = None) -> None:
        """Copy the set of the level ``source``, here or in ``other``, to the level ``target``."""
        giver = other or self
        for sets, given in (
            (self.scale, giver.scale),
            (self.shift, giver.shift),
            (self.mean, giver.mean),
            (self.var, giver.var),
        ):
            sets[target].copy_(given[source])
