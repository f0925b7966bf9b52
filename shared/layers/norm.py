"""Switchable batch norm: statistics for each level, and their folding into integer thresholds.

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
BEYOND = 2.0**29  # no sum is as large: float32 holds integers up to 2**24
BISECTIONS = 30  # halve 2 * BEYOND down to 1
UNMEASURED = -1.0  # the variance of a channel that has no statistics yet
EXACT_TYPES = (torch.float32, torch.float64)


class SwitchableBatchNorm(_BatchNorm):
    """Batch norm with statistics for each of ``len(affine_of)`` levels.

    ``affine_of[level]`` says which set of scale and shift a level uses, or which sets are added up:
    over a grid of levels, one set a row and one a column, so that each is trained often. Training
    normalises by the batch; statistics come from ``measure`` alone, after training. Evaluation is
    float64 and element by element, so that ``fold`` finds exactly the integers at which the sign
    changes; it raises ``RuntimeError`` for a level that has not been measured and ``TypeError`` for
    numbers that are not exact.

    ``forward(x, level)``: x (B, n, ...) -> the same shape; n <= num_features.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, num_features: int, affine_of: Sequence[int | Sequence[int]]) -> None:
        # What torch knows as a batch norm is not skipped in silence (``reset_running_stats``).
        super().__init__(num_features, EPSILON, affine=False, track_running_stats=False)
        self.affine_of = [[sets] if isinstance(sets, int) else list(sets) for sets in affine_of]
        sets = 1 + max(max(chosen) for chosen in self.affine_of)
        added = len(self.affine_of[0])
        self.weight = nn.Parameter(torch.full((sets, num_features), 1 / added))
        self.bias = nn.Parameter(torch.zeros(sets, num_features))
        shape = (len(self.affine_of), num_features)
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.full(shape, UNMEASURED, dtype=torch.float64))
        self._counts = [0] * len(self.affine_of)  # values that ``measure`` has seen in a channel
        self._known: set[tuple[int, int]] = set()  # levels and widths whose statistics are there
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, level: int) -> Tensor:  # type: ignore[override]
        """Normalise the leading channels that came, with the statistics of ``level``."""
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
        """Take x (B, n, ...) into the statistics of ``level``; ``first``: begin them anew.

        Over batches of any size the result is that of all of them at once. Formula: Chan et al.,
        "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
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
        """Refuse: only ``torch.optim.swa_utils.update_bn`` asks for it, and then sets nothing."""
        if "mean" in self._buffers:  # else torch is making the module
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
        # Not by a list of indices, which a GPU would have to wait for.
        first, *others = self.affine_of[level]
        scale, shift = self.weight[first, :n], self.bias[first, :n]
        for other in others:
            scale = scale + self.weight[other, :n]
            shift = shift + self.bias[other, :n]
        return scale, shift

    def _slope(self, level: int, n: int) -> tuple[Tensor, Tensor]:
        scale, shift = self._scale_and_shift(level, n)
        var = self.var[level, :n]
        # Of channels that this level does not use: what their thresholds always were.
        var = torch.where(var == UNMEASURED, 1.0, var)
        deviation = torch.sqrt(var + EPSILON)
        return scale.double() / deviation, shift.double()

    @torch.no_grad()
    def fold(
        self, level: int, n: int, reach: Tensor | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Thresholds (n,) and flips (n,): ``self(s) >= reach`` iff ``(s >= threshold) ^ flip``.

        ``reach`` (n,) is 0 by default: the sign. Holds for every sum that a network can have. The
        threshold is found by bisection over the very expression that ``forward`` evaluates, which
        never turns back: rounding, too, keeps the order of numbers. Channels that have not been
        measured, which the level does not use, are folded with mean 0 and variance 1.
        """
        self._require(level, 1)
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
        return first.cpu().numpy().astype(np.int32), falling.cpu().numpy()

    @torch.no_grad()
    def scale_and_bias(
        self, level: int, n: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Scale (n,) and bias (n,) such that the norm of s is about ``s * scale + bias``."""
        self._require(level, n)
        slope, shift = self._slope(level, n)
        bias = shift - self.mean[level, :n] * slope
        return slope.cpu().numpy().astype(np.float32), bias.cpu().numpy().astype(np.float32)


def _forget(norm: nn.Module, _: Any) -> None:
    """Statistics that were loaded are looked at again."""
    if isinstance(norm, SwitchableBatchNorm):
        norm._known.clear()
