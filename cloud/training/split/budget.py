"""Choose the number of epochs of a training that has a time limit."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from cloud.training.split.pairs import draw_pairs, macs
from cloud.training.split.schedule import fall_of
from cloud.training.split.settings import Settings
from shared.model.architecture import Architecture

RESERVE = 1.05  # factor on the expected time of the epochs with a falling learning rate
DRAWS = 200


class Budget:
    """A time limit of ``seconds`` for a training, counted from now on ``clock``.

    Epochs with a stable learning rate go on until those with a falling rate would just fit, so the
    speed of the machine need not be known in advance. The result equals that of a training with the
    same number of epochs set from the start.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._first = 0.0  # seconds of the first epoch, in which the fastest kernels are searched
        self._last = 0.0  # seconds of the last epoch
        self._stable = 0.0  # seconds of an epoch before the rate falls

    def spent(self, seconds: float, *, falling: bool) -> None:
        """Record that an epoch took ``seconds``."""
        self._first = self._first or seconds
        self._last = seconds
        if not falling:
            self._stable = min(seconds, 0.5 * (self._stable or seconds) + 0.5 * seconds)

    def over(self) -> bool:
        """Whether another epoch would exceed the limit."""
        return self._clock() + self._last > self._end

    def epochs(self, done: int, architecture: Architecture, settings: Settings) -> int | None:
        """Return the total number of epochs if the rate must fall after ``done``; else None."""
        if not done:
            return None
        # Would the falling epochs, of which the first is slow, still fit after one more stable
        # epoch?
        falling = self._stable * cost_ratio(architecture, settings) * RESERVE
        slow = max(self._first - self._stable, 0.0)
        left = self._end - self._clock() - self._stable - slow
        if falling * falling_epochs(done + 1, settings.decay) < left:
            return None
        return done + falling_epochs(done, settings.decay)


def falling_epochs(stable: int, decay: float) -> int:
    """Return the number of epochs with a falling rate that follow ``stable`` ones."""
    total = math.ceil(stable / (1 - decay))
    while fall_of(total, decay) < stable:
        total += 1
    return total - stable


def cost_ratio(architecture: Architecture, settings: Settings) -> float:
    """Estimate the time of a step while the rate falls, divided by that of a step before.

    Half of the time is proportional to multiply-accumulates, half to the number of passes, as
    measured on a GPU.
    """
    generator = random.Random(0)  # noqa: S311 - only for an estimate
    draws = [
        [draw_pairs(architecture, settings, generator, falling=falling) for _ in range(DRAWS)]
        for falling in (False, True)
    ]
    work = [sum(macs(architecture, pairs) for pairs in drawn) for drawn in draws]
    passes = [sum(len(levels) for pairs in drawn for _, levels in pairs) for drawn in draws]
    return 0.5 * work[1] / work[0] + 0.5 * passes[1] / passes[0]
