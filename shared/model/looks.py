"""Plans of one or two looks at a sample, as a bundle lists them.

The first look is narrow and cheap. If the cloud is not sure of its answer, the device computes the
sample again at a wider level and sends it whole. The cloud is sure if the margin between its two
best logits reaches ``ask_below``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from shared.errors import BundleError
from shared.model.bundle import Bundle

METADATA_KEY = "looks"  # in a bundle's ``extra``
NO_LOOK = -1  # in place of a second level


@dataclass(frozen=True)
class LookPlan:
    """One way to look, measured on the validation split with the cloud at full width.

    first, second  device level indices; ``NO_LOOK``: the first answer counts
    ask_below      margin of the cloud's logits below which it asks for the second look
    asked          share of the samples for which it does
    accuracy       share of right answers
    payload_bytes, device_macs   mean of a sample, both looks together
    """

    first: int
    second: int
    ask_below: float
    asked: float
    accuracy: float
    payload_bytes: float
    device_macs: float

    @property
    def looks(self) -> float:
        """Mean number of looks."""
        return 1 + self.asked


def read_plans(bundle: Bundle) -> tuple[LookPlan, ...]:
    """The plans in ``bundle``; none if none were measured. ``BundleError`` for anything else."""
    rows = bundle.metadata.extra.get(METADATA_KEY, [])
    try:
        return tuple(_plan(row, len(bundle.architecture.device_levels)) for row in rows)
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"bundle {bundle.metadata.name}: its plans of looks cannot be read ({error!r})"
        ) from None


def to_rows(plans: Iterable[LookPlan]) -> list[list[float]]:
    """What ``read_plans`` reads."""
    return [list(astuple(plan)) for plan in plans]


def cheapest(plans: Sequence[LookPlan], accuracy: float) -> LookPlan:
    """The plan with the least bytes and operations that reaches ``accuracy``.

    Both count as shares of what the most expensive plan takes. The most accurate plan if none
    reaches ``accuracy``.
    """
    enough = [plan for plan in plans if plan.accuracy >= accuracy]
    most_bytes = max(plan.payload_bytes for plan in plans)
    most_macs = max(plan.device_macs for plan in plans)
    if not enough:
        return max(plans, key=lambda plan: plan.accuracy)
    return min(
        enough, key=lambda plan: plan.payload_bytes / most_bytes + plan.device_macs / most_macs
    )


def _plan(row: Any, levels: int) -> LookPlan:
    first, second, *numbers = row
    if type(first) is not int or type(second) is not int:
        raise ValueError("levels must be whole numbers")
    if not 0 <= first < levels or not (second == NO_LOOK or first < second < levels):
        raise ValueError(f"levels {first} and {second} of {levels}")
    plan = LookPlan(first, second, *(float(number) for number in numbers))
    if not all(map(math.isfinite, astuple(plan))) or min(astuple(plan)[2:]) < 0:
        raise ValueError("a number is below 0 or not finite")
    return plan
