"""The learning rate of a training that can be extended: warm-up, stable, decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cloud.training.split.settings import Settings


@dataclass(frozen=True)
class Plan:
    """The schedule of a training of ``epochs`` epochs; None if unknown, then the rate is stable.

    Before ``fall`` nothing depends on the number of epochs, so a training can be extended from
    there. Source: Hu et al., "MiniCPM" (arXiv 2404.06395), here with a cosine decay.
    """

    epochs: int | None
    warm_up: float  # epochs
    decay: float  # share of the epochs
    average: float  # share of the epochs

    @property
    def fall(self) -> int | None:
        """Number of epochs after which the rate falls."""
        return None if self.epochs is None else fall_of(self.epochs, self.decay)

    @property
    def average_from(self) -> int | None:
        """Number of epochs after which weights are averaged; at least the last epoch is."""
        if self.epochs is None or self.fall is None:
            return None
        return max(self.fall, min(self.epochs - 1, math.ceil(self.epochs * (1 - self.average))))

    def share(self, progress: float) -> float:
        """Return the learning rate as a share of the highest, ``progress`` epochs after
        the start.
        """
        rising = min(progress / self.warm_up, 1.0) if self.warm_up > 0 else 1.0
        if self.epochs is None or self.fall is None or progress <= self.fall:
            return rising
        done = (progress - self.fall) / (self.epochs - self.fall)
        return rising * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def falling(self, epoch: int) -> bool:
        """Whether the rate falls in the epoch with this index."""
        return self.fall is not None and epoch >= self.fall


def plan(settings: Settings, epochs: int | None) -> Plan:
    """Return the schedule of ``settings`` over ``epochs`` epochs."""
    return Plan(epochs, settings.warm_up, settings.decay, settings.average)


def fall_of(epochs: int, decay: float) -> int:
    """Return the number of whole epochs before the rate of a training of ``epochs`` falls."""
    return min(epochs - 1, math.floor(epochs * (1 - decay))) if epochs else 0
