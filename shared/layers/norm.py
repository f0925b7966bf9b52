"""Switchable batch norm: statistics for each level, which can be folded into integer thresholds.

Source: Yu et al., "Slimmable Neural Networks" (arXiv 1812.08928) for a batch norm per width; Yu and
Huang, "Universally Slimmable Networks" (arXiv 1903.05134) for statistics recomputed after training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

EPSILON = 1e-5
BEYOND = 2.0**29  # larger than any sum, which must be exact in float32 and so below 2**24
BISECTIONS = 30  # steps of halving from 2 * BEYOND to 1
UNMEASURED = -1.0  # variance of channels without statistics
EXACT_TYPES = (torch.float32, torch.float64)


class SwitchableBatchNorm(_BatchNorm):
    """Batch norm with statistics for each of ``len(affine_of)`` levels.

    ``affine_of[level]`` is the index of the set of scale and shift that a level uses, or several
    indices of sets that are added up: over a grid of levels there is a set for each row and each
    column, so that every set is trained often. In training, the statistics are those of the batch.
    For evaluation they are set by ``measure`` after training. Evaluation is computed in float64 and
    elementwise, so that ``fold`` finds the exact integers at which the sign changes. It raises
    ``RuntimeError`` for a level that has not been measured, ``TypeError`` for inexact types.

    ``forward(x, level)``: x (B, n, ...) -> the same shape; n <= num_features.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, num_features: int, affine_of: Sequence[int | Sequence[int]]) -> None:
        # A subclass of torch's batch norm, so that torch functions for batch norms do not silently
        # skip it (see ``reset_running_stats``).
        super().__init__(num_features, EPSILON, affine=False, track_running_stats=False)
        self.affine_of = [[sets] if isinstance(sets, int) else list(sets) for sets in affine_of]
        sets = 1 + max(max(chosen) for chosen in self.affine_of)
        added = len(self.affine_of[0])
        self.weight = nn.Parameter(torch.full((sets, num_features), 1 / added))
        self.bias = nn.Parameter(torch.zeros(sets, num_features))
        shape = (len(self.affine_of), num_features)
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.full(shape, UNMEASURED, dtype=torch.float64))
        self._counts = [0] * len(self.affine_of)  # values per channel that ``measure`` has used
        self._known: set[tuple[int, int]] = set()  # (level, width) pairs known to have statistics
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, level: int) -> Tensor:  # type: ignore[override]
        """Normalise the given leading channels with the statistics of ``level``."""
        n = x.shape[1]
        if self.training:
            scale, shift = self._scale_and_shift(level, n)
            return F.batch_norm(x, None, None, scale, shift, training=True, eps=EPSILON)
        if x.dtype not in EXACT_TYPES:
            raise TypeError(
                f"input: {x.dtype} is not exact, and evaluation is; use float32 and no autocast"
            )
        self._require(level, n)
        slope, shift = self._slope(level, n)
        # (n,) -> (n, 1, ...) to stand against the channels of x
        view = (n,) + (1,) * (x.dim() - 2)
        centred = x.double() - self.mean[level, :n].view(view)
        return centred * slope.view(view) + shift.view(view)

    @torch.no_grad()
    def measure(self, x: Tensor, level: int, *, first: bool) -> None:
        """Add x (B, n, ...) to the statistics of ``level``; ``first`` resets them before.

        The result over several batches of any size equals that of all values at once. Formula: Chan
        et al., "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
        """
        n = x.shape[1]
        var, mean = torch.var_mean(x.double(), dim=[0, *range(2, x.dim())], correction=0)
        new = x.numel() // n
        before = 0 if first else self._counts[level]
        self._counts[level] = before + new
        self._known.add((level, n))
        if first:
            self.mean[level, :n] = mean
            self.var[level, :n] = var
            return
        share = new / (before + new)
        apart = mean - self.mean[level, :n]
        self.mean[level, :n] += apart * share
        self.var[level, :n] += (var - self.var[level, :n] + apart.square() * (1 - share)) * share

    def reset_running_stats(self) -> None:
        """Raise: ``torch.optim.swa_utils.update_bn`` calls it, but would set no statistics here."""
        if "mean" in self._buffers:  # otherwise torch calls it while constructing the module
            raise RuntimeError(
                "update_bn: cannot set the statistics of a SwitchableBatchNorm, which belong to "
                "levels; call BinaryNet.calibrate or SwitchableBatchNorm.measure"
            )

    def _require(self, level: int, n: int) -> None:
        """Raise ``RuntimeError`` unless the first n channels of ``level`` have statistics."""
        if (level, n) in self._known:
            return
        if bool((self.var[level, :n] < 0).any()):
            raise RuntimeError(
                f"level {level}: has no statistics for {n} channels; call BinaryNet.calibrate or "
                "SwitchableBatchNorm.measure before evaluation"
            )
        self._known.add((level, n))

    def _scale_and_shift(self, level: int, n: int) -> tuple[Tensor, Tensor]:
        # No indexing by a list, which would have to be copied to a GPU first.
        first, *others = self.affine_of[level]
        scale, shift = self.weight[first, :n], self.bias[first, :n]
        for other in others:
            scale = scale + self.weight[other, :n]
            shift = shift + self.bias[other, :n]
        return scale, shift

    def _slope(self, level: int, n: int) -> tuple[Tensor, Tensor]:
        scale, shift = self._scale_and_shift(level, n)
        var = self.var[level, :n]
        # Channels that this level does not use get variance 1, which defines their thresholds.
        var = torch.where(var == UNMEASURED, 1.0, var)
        deviation = torch.sqrt(var + EPSILON)
        return scale.double() / deviation, shift.double()

    @torch.no_grad()
    def fold(
        self, level: int, n: int, reach: Tensor | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Return thresholds (n,) and flips (n,): ``self(s) >= reach`` iff ``(s >= threshold) ^
        flip``.

        ``reach`` (n,) is 0 by default, which gives the sign. This holds for every sum s that a
        network can have: the threshold is found by bisection over the very expression that
        ``forward`` evaluates, which is monotonic even with rounding. Channels without statistics,
        which the level does not use, are folded with mean 0 and variance 1.
        """
        self._require(level, 1)
        slope, shift = self._slope(level, n)
        mean = self.mean[level, :n]
        wanted = torch.zeros_like(shift) if reach is None else reach[:n].double()
        falling = slope < 0
        below = torch.full_like(slope, -BEYOND)
        first = torch.full_like(slope, BEYOND)  # a sum after the change of the sign
        for _ in range(BISECTIONS):
            middle = torch.floor((below + first) / 2)
            changed = ((middle - mean) * slope + shift >= wanted) != falling
            first = torch.where(changed, middle, first)
            below = torch.where(changed, below, middle)
        return first.cpu().numpy().astype(np.int32), falling.cpu().numpy()

    @torch.no_grad()
    def scale_and_bias(
        self, level: int, n: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return scale (n,) and bias (n,) such that the norm of s is about ``s * scale + bias``."""
        self._require(level, n)
        slope, shift = self._slope(level, n)
        bias = shift - self.mean[level, :n] * slope
        return slope.cpu().numpy().astype(np.float32), bias.cpu().numpy().astype(np.float32)


def _forget(norm: nn.Module, _: Any) -> None:
    """Drop cached knowledge about statistics after a state has been loaded."""
    if isinstance(norm, SwitchableBatchNorm):
        norm._known.clear()
