"""Statistics of a chain of stages over many images, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from shared.networks.binary_stage import Step

Parts = Callable[[], Iterable[Tensor]]  # the inputs, part by part, as often as it is called


def measure(steps: Sequence[Step], parts: Parts) -> None:
    """Set the statistics of ``steps``, each with those before it at their new ones.

    The parts pass once for each step and are computed anew up to it: maps between layers are far
    too large to be kept.
    """
    for depth, last in enumerate(steps):
        for index, x in enumerate(parts()):
            sums = last.sums(run(steps[:depth], x))
            last.stage.norm.measure(sums, last.table, first=index == 0)


def run(steps: Sequence[Step], x: Tensor) -> Tensor:
    """What the last of ``steps`` gives."""
    for step in steps:
        x = step.run(x)
    return x


class SentBits:
    """The bits (-1/+1) that a device half sends, kept in an eighth of a byte each."""

    def __init__(self, parts: Iterable[Tensor]) -> None:
        self._packed = []
        for x in parts:
            self._packed.append(np.packbits((x > 0).cpu().numpy(), axis=1))
            self._channels, self._like = x.shape[1], x[:0]

    def __call__(self) -> Iterator[Tensor]:
        """The bits part by part, (B, n, H, W) each."""
        for packed in self._packed:
            bits = torch.from_numpy(np.unpackbits(packed, axis=1, count=self._channels))
            x = bits.to(self._like.device, self._like.dtype) * 2 - 1
            yield x.contiguous(memory_format=torch.channels_last)
