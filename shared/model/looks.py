"""Plans of one or two looks at a sample, as a bundle lists them.

The first look is narrow and cheap. If the exit head is sure, the sample ends there. If it is far
from sure, the device takes the second look at once; else it sends the first. If the cloud is not
sure of its answer, the device computes the sample again at a wider level and sends that whole. The
cloud is sure if the margin between its two best logits reaches ``ask_below``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from shared.errors import BundleError
from shared.model.bundle import Bundle
from shared.model.exits import NEVER

METADATA_KEY = "looks"  # in a bundle's ``extra``
NO_LOOK = -1  # in place of a second level
# Of accuracy, that a pair of levels may lose to its second level alone for a cheaper threshold.
USUAL_LOSS = 0.001


@dataclass(frozen=True)
class LookPlan:
    """One way to look, measured on the validation split with the cloud at full width.

    first, second   device level indices; ``NO_LOOK``: the first answer counts
    exit_threshold  confidence of the exit head from which the first look stays on the device;
                    ``NEVER`` without exits
    escalate_below  confidence of the exit head below which the second look is taken at once
    ask_below       margin of the cloud's logits, as ``shared.protocol.looks.margins`` gives it,
                    below which it asks for the second look
    stays, escalated, asked   shares of the samples for which these happen
    accuracy        share of right answers
    payload_bytes, device_macs   mean of a sample, both looks together
    """

    first: int
    second: int
    exit_threshold: float
    escalate_below: float
    ask_below: int
    stays: float
    escalated: float
    asked: float
    accuracy: float
    payload_bytes: float
    device_macs: float

    @property
    def looks(self) -> float:
        """Mean number of looks."""
        return 1 + self.escalated + self.asked

    @property
    def has_exit(self) -> bool:
        """Whether the exit head is asked."""
        return self.exit_threshold < NEVER or self.escalate_below > 0


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


def ask_table(bundle: Bundle) -> list[list[int]]:
    """Margins below which a server asks by itself, at [first level][second level]; 0 means never.

    Of the plans of a pair it is that of the cheapest which loses at most ``USUAL_LOSS`` to the most
    accurate of them.
    """
    levels = len(bundle.architecture.device_levels)
    table = [[0] * levels for _ in range(levels)]
    pairs: dict[tuple[int, int], list[LookPlan]] = {}
    for plan in read_plans(bundle):
        if plan.second != NO_LOOK:
            pairs.setdefault((plan.first, plan.second), []).append(plan)
    for (first, second), plans in pairs.items():
        best = max(plan.accuracy for plan in plans)
        table[first][second] = cheapest(plans, best - USUAL_LOSS).ask_below
    return table


def _plan(row: Any, levels: int) -> LookPlan:
    plan = LookPlan(*row)
    whole = (plan.first, plan.second, plan.ask_below)
    if not all(type(number) is int for number in whole):
        raise ValueError("levels and margins must be whole numbers")
    if not all(type(number) in (int, float) for number in row):
        raise TypeError("not a number")
    if not 0 <= plan.first < levels or not (
        plan.second == NO_LOOK or plan.first < plan.second < levels
    ):
        raise ValueError(f"levels {plan.first} and {plan.second} of {levels}")
    if not all(map(math.isfinite, row)) or min(row[2:]) < 0 or plan.ask_below >= 2**63:
        raise ValueError("a number is below 0, too large or not finite")
    return plan
