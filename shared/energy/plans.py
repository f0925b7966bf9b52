"""Expected joules of a plan of looks."""

from __future__ import annotations

from collections.abc import Sequence

from shared.energy.model import EnergyModel, Work
from shared.model.looks import NO_LOOK, LookPlan


def plan_energy_j(
    plan: LookPlan,
    work: Sequence[tuple[Work, Work]],
    payload_bytes: Sequence[float],
    model: EnergyModel,
) -> float:
    """Return the mean joules of a sample under ``plan``, without taking the picture.

    ``work`` holds (device half, exit head) of each level, ``payload_bytes`` the mean payload of a
    sample that is sent alone, by level.
    """
    first, exit_head = work[plan.first]
    energy_j = model.compute_j(first + exit_head if plan.has_exit else first)
    sent = 1 - plan.stays - plan.escalated
    if sent > 0:
        energy_j += sent * model.exchange_j(payload_bytes[plan.first])
    if plan.second != NO_LOOK:
        second_j = model.compute_j(work[plan.second][0])
        second_j += model.exchange_j(payload_bytes[plan.second])
        energy_j += (plan.escalated + plan.asked) * second_j
    return energy_j
