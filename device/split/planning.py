"""Make the planning policy of a client; imported only by clients that have a goal."""

from __future__ import annotations

from device.policy.auto import AutoPolicy, Goal
from device.policy.operating_points import Conditions, level_tables
from device.split.settings import ClientSettings
from shared.energy.hardware import find_hardware
from shared.energy.model import EnergyModel
from shared.model.bundle import Bundle
from shared.model.exits import NEVER
from shared.model.looks import plans_on_test


def plan(settings: ClientSettings, bundle: Bundle) -> AutoPolicy:
    """Return the policy for the goals in ``settings``."""
    pinned = settings.exit_threshold if settings.use_exit else NEVER
    return AutoPolicy(
        level_tables(bundle),
        EnergyModel(find_hardware(settings.hardware)),
        Goal(settings.lifetime_s, settings.min_accuracy, settings.max_bytes),
        Conditions(max_wait_s=settings.max_wait_s, deadline_s=settings.deadline_s),
        pinned,
        plans_on_test(bundle),
    )
