"""Measure the plans of looks of a bundle again on the validation split.

``python -m cloud.training.looks BUNDLE`` replaces the table of plans of a bundle and leaves
everything else unchanged, including the version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cloud.training.data.datasets import load
from cloud.training.split.look_calibration import (
    MOST,
    Choice,
    LevelAnswers,
    level_answers,
    look_tables,
    measure,
)
from cloud.training.split.table_command import (
    BundleWord,
    DataFolder,
    DataName,
    OutputFile,
    data_of,
    write_to,
)
from shared.bundles import bundle_path
from shared.model.bundle import make_bundle, read_bundle
from shared.model.exits import NEVER
from shared.model.looks import NO_LOOK, LookPlan, read_plans
from shared.typer_app import run_app

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
console = Console(stderr=True)


@app.command()
def measure_looks(
    bundle: BundleWord,
    output: OutputFile = None,
    data: DataName = None,
    data_dir: DataFolder = Path("data"),
    most: Annotated[
        int, typer.Option(min=1, max=1000, help="Largest number of plans to list.")
    ] = MOST,
) -> None:
    """Measure plans of looks on the validation split, list the best, show them on the test set."""
    path = bundle_path(bundle, "BUNDLE")
    given = read_bundle(path)
    name = data_of(given, data)
    held, test = (load(name, data_dir, part) for part in ("validation", "test"))
    extra = {
        **given.metadata.extra,
        **look_tables(level_answers(given, held.images, held.labels), most),
    }
    made = make_bundle(replace(given.metadata, extra=extra), given.tensors)
    console.print(_tested(read_plans(made), level_answers(given, test.images, test.labels)))
    write_to(output or path, made, console)


def _tested(plans: Sequence[LookPlan], test: list[LevelAnswers]) -> Table:
    table = Table(title="plans, on the test set")
    headings = ("levels", "exit", "again below", "stays", "again", "right, held", "right", "bytes")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("MMAC", justify="right")
    for plan in plans:
        choice = Choice(
            plan.first, plan.second, plan.ask_below, plan.exit_threshold, plan.escalate_below
        )
        found, _ = measure(test, choice)
        table.add_row(
            str(plan.first) if plan.second == NO_LOOK else f"{plan.first}, {plan.second}",
            "-" if plan.exit_threshold == NEVER else f"{plan.exit_threshold:g}",
            f"{plan.escalate_below:g}" if plan.escalate_below else "-",
            f"{found.stays:.1%}",
            f"{found.escalated:.1%} + {found.asked:.1%}",
            f"{plan.accuracy:.2%}",
            f"{found.accuracy:.2%}",
            f"{found.payload_bytes:.1f}",
            f"{found.device_macs / 1e6:.2f}",
        )
    return table


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
