"""Choose the plan of looks for ``model.h``: from the bundle's table, or a single look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import UsageError
from shared.fractions import level_for
from shared.model.bundle import Bundle
from shared.model.exits import NEVER, NEVER_MARGIN, margin_threshold, read_calibration
from shared.model.looks import NO_LOOK, LookPlan, cheapest, plans_on_test

FRACTION = 0.3  # fraction of the single look if no plan is requested


@dataclass(frozen=True)
class BoardLook:
    """A ``taper_look``: ``level`` is an index into the levels of the blob."""

    level: int
    stays_from: int
    again_below: int = 0
    ask_below: int = 0


def one_look(bundle: Bundle, levels: Sequence[int]) -> tuple[BoardLook, ...]:
    """Return a plan of one look at ``FRACTION``, or at the next of ``levels``."""
    fractions = [bundle.architecture.device_levels[level] for level in levels]
    index = level_for(FRACTION, fractions)
    calibration = read_calibration(bundle)
    return (BoardLook(index, calibration.margins[levels[index]] if calibration else NEVER_MARGIN),)


def plan_for(
    bundle: Bundle, levels: Sequence[int], min_accuracy: float | None
) -> tuple[BoardLook, ...]:
    """Return the cheapest plan of two looks at ``levels`` with at least ``min_accuracy``.

    If ``min_accuracy`` is None, a plan of one look. ``UsageError`` if no plan is that accurate.
    """
    if min_accuracy is None:
        return one_look(bundle, levels)
    plans = [plan for plan in plans_on_test(bundle) if {plan.first, plan.second} <= set(levels)]
    name = bundle.metadata.name
    if not plans:
        raise UsageError(f"--min-accuracy: {name} has no plan of two looks at these levels")
    best = max(plan.accuracy for plan in plans)
    if not 0 < min_accuracy <= best:
        raise UsageError(
            f"--min-accuracy: {min_accuracy:g} is not allowed; give a number above 0, up to "
            f"{math.floor(best * 1e4) / 1e4:g}, the most that a plan of {name} reaches"
        )
    return board_looks(bundle, levels, cheapest(plans, min_accuracy))


def board_looks(bundle: Bundle, levels: Sequence[int], plan: LookPlan) -> tuple[BoardLook, ...]:
    """Convert ``plan`` for a blob of ``levels``, with confidences as margins."""
    calibration = read_calibration(bundle)

    def margin(confidence: float) -> int:
        return margin_threshold(
            confidence, calibration.temperature[plan.first] if calibration else 1.0
        )

    stays_from = margin(plan.exit_threshold) if plan.exit_threshold < NEVER else NEVER_MARGIN
    first = BoardLook(
        levels.index(plan.first), stays_from, margin(plan.escalate_below), plan.ask_below
    )
    if plan.second == NO_LOOK:
        return (first,)
    return first, BoardLook(levels.index(plan.second), NEVER_MARGIN)


def plan_constant(looks: Sequence[BoardLook]) -> str:
    """Return the C text of ``looks`` as a ``taper_plan``."""
    rows = ",\n     ".join(
        f"{{{look.level}, INT64_C({look.stays_from}), INT64_C({look.again_below}), "
        f"UINT64_C({look.ask_below})}}"
        for look in looks
    )
    return f"static const taper_plan taper_looks = {{\n    {len(looks)},\n    {{{rows}}}}};"
