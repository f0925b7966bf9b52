"""The plans of looks of a model, with the energy of each on every kind of hardware."""

from __future__ import annotations

from rich import box
from rich.table import Table

from device.policy.operating_points import (
    Conditions,
    level_tables,
    one_look_plans,
    operating_point,
)
from shared.energy.hardware import HARDWARE
from shared.energy.model import EnergyModel
from shared.model.bundle import Bundle
from shared.model.exits import NEVER
from shared.model.looks import NO_LOOK, plans_on_test


def plan_table(bundle: Bundle, rate_per_s: float) -> Table:
    """Return a table with a row for each level alone and each plan of two looks, by bytes sent.

    The column ``exit, again`` has the confidences of the exit head from which a sample stays, and
    below which the device takes the second look at once. Energies are in millijoules per sample,
    including the picture and a share of the radio.
    """
    tables = level_tables(bundle)
    levels = bundle.architecture.device_levels
    plans = [*one_look_plans(tables, pinned_threshold=NEVER), *plans_on_test(bundle)]
    made = Table(box=box.SIMPLE_HEAVY, pad_edge=False, padding=(0, 1, 0, 0))
    headings = ("looks", "exit,\nagain", "mean\nlooks", "right", "bytes", "MMAC")
    for heading in (*headings, *(f"mJ\n{name}" for name in HARDWARE)):
        made.add_column(heading, justify="left" if heading == "looks" else "right", no_wrap=True)
    conditions = Conditions(rate_per_s=rate_per_s)
    for plan in sorted(plans, key=lambda plan: plan.payload_bytes):
        two = "" if plan.second == NO_LOOK else f":{levels[plan.second]:g}"
        points = [
            operating_point(plan, tables, 0.0, EnergyModel(hardware), conditions)
            for hardware in HARDWARE.values()
        ]
        made.add_row(
            f"{levels[plan.first]:g}{two}",
            f"{plan.exit_threshold:g}, {plan.escalate_below:g}" if plan.has_exit else "-",
            f"{plan.looks:.2f}",
            f"{plan.accuracy:.2%}",
            f"{plan.payload_bytes:.1f}",
            f"{plan.device_macs / 1e6:.2f}",
            *(f"{1000 * point.energy_j:.3g}" for point in points),
        )
    return made
