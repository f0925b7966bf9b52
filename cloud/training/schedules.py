"""Learning rate schedules: pure functions that return a share of the highest learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from shared.errors import UsageError

Schedule = Callable[[int, int, int], float]  # (step, steps an epoch, epochs) -> share

WARM_UP = 0.2  # share of a one-cycle training in which the rate rises
FIRST_SHARE = 0.04
HALVING_EPOCHS = 25


def constant(step: int, epoch_steps: int, epochs: int) -> float:  # noqa: ARG001
    """Return 1 throughout."""
    return 1.0


def halving(step: int, epoch_steps: int, epochs: int) -> float:  # noqa: ARG001
    """Halve the rate after every 25 epochs, as the paper does."""
    return float(0.5 ** (step // max(epoch_steps, 1) // HALVING_EPOCHS))


def one_cycle(step: int, epoch_steps: int, epochs: int) -> float:
    """Rise linearly for a fifth of the training, then fall to 0 along half a cosine.

    Source: Smith and Topin, "Super-Convergence" (arXiv 1708.07120).
    """
    progress = step / max(epoch_steps * epochs, 1)
    if progress < WARM_UP:
        return FIRST_SHARE + (1 - FIRST_SHARE) * progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "halving": halving,
    "one-cycle": one_cycle,
}


def schedule(name: str) -> Schedule:
    """Return the schedule of that name; ``UsageError`` lists the known ones."""
    if name not in SCHEDULES:
        raise UsageError(f"--schedule: {name!r} is unknown; known: {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
