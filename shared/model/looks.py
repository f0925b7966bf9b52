"""Plans of one or two looks at a sample, as a bundle lists them.

The first look is narrow and cheap. If the exit head is sure, its answer is final. If it is far from
sure, the device takes the second look at once. Otherwise it sends the first look. If the cloud is
not sure of its answer to that, it requests the second look: the device computes the sample again at
a wider level and sends all its bits. The cloud is sure if the margin between its two best logits
reaches ``ask_below``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from shared.errors import BundleError
from shared.model.architecture import Architecture
from shared.model.bundle import Bundle
from shared.model.exits import NEVER

METADATA_KEY, PAYLOADS_KEY = "looks", "payload_bytes"  # keys in a bundle's ``extra``
NO_LOOK = -1  # second level of plans with one look
# Loss of accuracy that is accepted for a cheaper margin, see ``ask_table``.
USUAL_LOSS = 0.001


@dataclass(frozen=True)
class LookPlan:
    """A plan of looks with its results on the validation split, with the cloud at full width.

    first, second   device level indices; ``second`` is ``NO_LOOK`` in plans of one look
    exit_threshold  confidence of the exit head from which the sample stays on the device; ``NEVER``
                    without exits
    escalate_below  confidence of the exit head below which the second look is taken at once
    ask_below       margin of the cloud's logits (``shared.protocol.looks.margins``) below which it
                    requests the second look
    stays, escalated, asked    shares of the samples for which these conditions hold
    accuracy                   share of right answers
    payload_bytes, device_macs means per sample over both looks
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
        """Mean number of looks at a sample."""
        return 1 + self.escalated + self.asked

    @property
    def has_exit(self) -> bool:
        """Whether the plan uses the exit head."""
        return self.exit_threshold < NEVER or self.escalate_below > 0


def read_plans(bundle: Bundle) -> tuple[LookPlan, ...]:
    """Read the plans in ``bundle``; empty if there are none; ``BundleError`` if invalid."""
    rows = bundle.metadata.extra.get(METADATA_KEY, [])
    try:
        return tuple(_plan(row, bundle.architecture) for row in rows)
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"bundle {bundle.metadata.name}: its plans of looks cannot be read ({error!r})"
        ) from None


def read_payloads(bundle: Bundle) -> tuple[float, ...] | None:
    """Read the mean bytes of a sample that is sent alone, by level; None if not measured.

    ``BundleError`` if they are invalid.
    """
    found = bundle.metadata.extra.get(PAYLOADS_KEY)
    if found is None:
        return None
    try:
        payloads = tuple(float(number) for number in found)
    except (TypeError, ValueError):
        payloads = ()
    right = all(0 < number < math.inf for number in payloads)
    if not right or len(payloads) != len(bundle.architecture.device_levels):
        raise BundleError(f"bundle {bundle.metadata.name}: its payloads cannot be read")
    return payloads


def plans_on_test(bundle: Bundle) -> tuple[LookPlan, ...]:
    """Return the plans of two looks with the accuracy to expect on the test set.

    It is the test accuracy of the widest level minus the plan's loss against that level, which was
    measured on the validation split.
    """
    plans, widest = read_plans(bundle), len(bundle.architecture.device_levels) - 1
    alone = [p for p in plans if (p.first, p.second) == (widest, NO_LOOK) and not p.has_exit]
    if not alone or not bundle.metadata.accuracy:
        return ()
    shift = bundle.metadata.accuracy[-1][-1] - alone[0].accuracy
    return tuple(
        replace(plan, accuracy=min(max(plan.accuracy + shift, 0.0), 1.0))
        for plan in plans
        if plan.second != NO_LOOK
    )


def to_rows(plans: Iterable[LookPlan]) -> list[list[float]]:
    """Convert plans to the rows that ``read_plans`` reads: all fields except the operations."""
    return [
        [round(number, 4) if isinstance(number, float) else number for number in astuple(plan)[:-1]]
        for plan in plans
    ]


def cheapest(plans: Sequence[LookPlan], accuracy: float) -> LookPlan:
    """Return the cheapest plan that reaches ``accuracy``, or the most accurate if none does.

    The cost is the sum of bytes and operations, each relative to the most expensive plan.
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
    """Return the server's default margins ``ask_below`` at [first level][second level]; 0 is never.

    For a pair of levels it is that of the cheapest plan that loses at most ``USUAL_LOSS`` to the
    most accurate plan of the pair. A pair without a plan uses the margin of the same first level
    and the nearest second level, since the margin describes the certainty of the first look.
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
    return [_filled(first, row) for first, row in enumerate(table)]


def _filled(first: int, margins: list[int]) -> list[int]:
    """Fill in missing margins of one first level by those of the nearest second level."""
    known = [second for second, margin in enumerate(margins) if margin]
    filled = list(margins)
    for second in range(first + 1, len(margins)):
        if known and not margins[second]:
            filled[second] = margins[min(known, key=lambda other: abs(other - second))]
    return filled


def _plan(row: Any, architecture: Architecture) -> LookPlan:
    levels = len(architecture.device_levels)
    plan = LookPlan(*[*row, 0.0])  # the operations are computed from the levels, below
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
    macs = float(architecture.device_macs(plan.first))
    if plan.second != NO_LOOK:
        macs += (plan.escalated + plan.asked) * architecture.device_macs(plan.second)
    return replace(plan, device_macs=macs)
