"""Measure the statistics of a chain of stages over many images in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from shared.networks.binary_stage import Step

Parts = Callable[[], Iterable[Tensor]]  # iterates over the inputs, part by part, at every call


def measure(steps: Sequence[Step], parts: Parts) -> None:
    """Measure the statistics of ``steps``, each after those before it.

    For each step all parts are computed again up to that step, since maps between layers are far
    too large to be kept.
    """
    for depth, last in enumerate(steps):
        for index, x in enumerate(parts()):
            sums = last.sums(run(steps[:depth], x))
            last.stage.norm.measure(sums, last.table, first=index == 0)


def run(steps: Sequence[Step], x: Tensor) -> Tensor:
    """Return the output of the last of ``steps``."""
    for step in steps:
        x = step.run(x)
    return x


class SentBits:
    """The bits (-1/+1) that a device half sends, stored packed, 8 in a byte."""

    def __init__(self, parts: Iterable[Tensor]) -> None:
        self._packed = []
        for x in parts:
            self._packed.append(np.packbits((x > 0).cpu().numpy(), axis=1))
            self._channels, self._like = x.shape[1], x[:0]

    def __call__(self) -> Iterator[Tensor]:
        """Yield the bits part by part, (B, n, H, W) each."""
        for packed in self._packed:
            bits = torch.from_numpy(np.unpackbits(packed, axis=1, count=self._channels))
            x = bits.to(self._like.device, self._like.dtype) * 2 - 1
            yield x.contiguous(memory_format=torch.channels_last)
