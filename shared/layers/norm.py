"""Switchable batch norm: statistics for each level, and their folding into integer thresholds.

Source: Yu et al., "Slimmable Neural Networks" (arXiv 1812.08928) for a batch norm per width; Yu and
Huang, "Universally Slimmable Networks" (arXiv 1903.05134) for statistics recomputed after training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
BEYOND = 2.0**29  # no sum is as large: float32 holds integers up to 2**24
BISECTIONS = 30  # halve 2 * BEYOND down to 1


class SwitchableBatchNorm(nn.Module):
    """Batch norm with statistics for each of ``len(affine_of)`` levels.

    ``affine_of[level]`` says which set of scale and shift a level uses, or which sets are added up:
    over a grid of levels, one set a row and one a column, so that each is trained often. Training
    normalises by the batch. While ``calibrating``, the statistics of the batch become those of the
    level. Evaluation is float64 and element by element, so that ``fold`` finds exactly the integers
    at which the sign changes.

    ``forward(x, level)``: x (B, n, ...) -> the same shape; n <= num_features.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, num_features: int, affine_of: Sequence[int | Sequence[int]]) -> None:
        super().__init__()
        self.affine_of = [[sets] if isinstance(sets, int) else list(sets) for sets in affine_of]
        sets = 1 + max(max(chosen) for chosen in self.affine_of)
        added = len(self.affine_of[0])
        self.weight = nn.Parameter(torch.full((sets, num_features), 1 / added))
        self.bias = nn.Parameter(torch.zeros(sets, num_features))
        shape = (len(self.affine_of), num_features)
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))
        self.calibrating = False

    def forward(self, x: Tensor, level: int) -> Tensor:
        """Normalise the leading channels that came, with the statistics of ``level``."""
        n = x.shape[1]
        if self.calibrating:
            self._measure(x, level)
        elif self.training:
            scale, shift = self._scale_and_shift(level, n)
            return F.batch_norm(x, None, None, scale, shift, training=True)
        slope, shift = self._slope(level, n)
        # (n,) -> (n, 1, ...) to stand against the channels of x
        view = (n,) + (1,) * (x.dim() - 2)
        centred = x.double() - self.mean[level, :n].view(view)
        return centred * slope.view(view) + shift.view(view)

    def _measure(self, x: Tensor, level: int) -> None:
        n = x.shape[1]
        dims = [0, *range(2, x.dim())]
        var, mean = torch.var_mean(x.detach().double(), dim=dims, correction=0)
        self.mean[level, :n] = mean
        self.var[level, :n] = var

    def _scale_and_shift(self, level: int, n: int) -> tuple[Tensor, Tensor]:
        chosen = self.affine_of[level]
        return self.weight[chosen, :n].sum(0), self.bias[chosen, :n].sum(0)

    def _slope(self, level: int, n: int) -> tuple[Tensor, Tensor]:
        scale, shift = self._scale_and_shift(level, n)
        deviation = torch.sqrt(self.var[level, :n] + EPSILON)
        return scale.double() / deviation, shift.double()

    @torch.no_grad()
    def fold(
        self, level: int, n: int, reach: Tensor | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Thresholds (n,) and flips (n,): ``self(s) >= reach`` iff ``(s >= threshold) ^ flip``.

        ``reach`` (n,) is 0 by default: the sign. Holds for every sum that a network can have. The
        threshold is found by bisection over the very expression that ``forward`` evaluates, which
        never turns back: rounding, too, keeps the order of numbers.
        """
        slope, shift = self._slope(level, n)
        mean = self.mean[level, :n]
        wanted = torch.zeros_like(shift) if reach is None else reach[:n].double()
        falling = slope < 0
        below = torch.full_like(slope, -BEYOND)
        first = torch.full_like(slope, BEYOND)  # where the change has happened
        for _ in range(BISECTIONS):
            middle = torch.floor((below + first) / 2)
            changed = ((middle - mean) * slope + shift >= wanted) != falling
            first = torch.where(changed, middle, first)
            below = torch.where(changed, below, middle)
        return first.numpy().astype(np.int32), falling.numpy()

    @torch.no_grad()
    def affine(self, level: int, n: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Scale (n,) and bias (n,) such that the norm of s is about ``s * scale + bias``."""
        slope, shift = self._slope(level, n)
        bias = shift - self.mean[level, :n] * slope
        return slope.numpy().astype(np.float32), bias.numpy().astype(np.float32)
