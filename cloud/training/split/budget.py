"""How many epochs a training may have, when it is time that is given."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from cloud.training.split.pairs import draw_pairs, macs
from cloud.training.split.schedule import fall_of
from cloud.training.split.settings import Settings
from shared.model.architecture import Architecture

RESERVE = 1.05  # of what the epochs with a falling rate are expected to take
DRAWS = 200


class Budget:
    """``seconds`` for a training, counted from now on ``clock``.

    The stable part goes on until the falling part would just fit, so that nobody has to know how
    fast the machine is; a training with as many epochs from the start is the same.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._first = 0.0  # seconds of the first epoch, which finds the fastest kernels
        self._last = 0.0  # of the last one
        self._stable = 0.0  # of one before the rate falls

    def spent(self, seconds: float, *, falling: bool) -> None:
        """An epoch took so long."""
        self._first = self._first or seconds
        self._last = seconds
        if not falling:
            self._stable = min(seconds, 0.5 * (self._stable or seconds) + 0.5 * seconds)

    def over(self) -> bool:
        """Whether another epoch would end too late."""
        return self._clock() + self._last > self._end

    def epochs(self, done: int, architecture: Architecture, settings: Settings) -> int | None:
        """All epochs, if the rate has to fall after ``done``; None: not yet."""
        if not done:
            return None
        # After one more stable epoch, would the falling ones still fit, slow first one and all?
        falling = self._stable * cost_ratio(architecture, settings) * RESERVE
        slow = max(self._first - self._stable, 0.0)
        left = self._end - self._clock() - self._stable - slow
        if falling * falling_epochs(done + 1, settings.decay) < left:
            return None
        return done + falling_epochs(done, settings.decay)


def falling_epochs(stable: int, decay: float) -> int:
    """How many epochs with a falling rate follow ``stable`` ones."""
    total = math.ceil(stable / (1 - decay))
    while fall_of(total, decay) < stable:
        total += 1
    return total - stable


def cost_ratio(architecture: Architecture, settings: Settings) -> float:
    """Time of a step while the rate falls, over that of a step before: an estimate.

    Half of it goes with multiply-accumulates, half with the number of passes, as measured on a GPU.
    """
    generator = random.Random(0)  # noqa: S311 - an estimate
    draws = [
        [draw_pairs(architecture, settings, generator, falling=falling) for _ in range(DRAWS)]
        for falling in (False, True)
    ]
    work = [sum(macs(architecture, pairs) for pairs in drawn) for drawn in draws]
    passes = [sum(len(levels) for pairs in drawn for _, levels in pairs) for drawn in draws]
    return 0.5 * work[1] / work[0] + 0.5 * passes[1] / passes[0]
