"""``python -m cloud.training.experiment``: train one network by one regime, sweep its fractions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cloud.training.data.augment import AUGMENTATIONS
from cloud.training.data.known import KNOWN
from cloud.training.flags import DataDir, Threads
from cloud.training.intervals import wilson
from cloud.training.paper.curve import Curve
from cloud.training.paper.flags import (
    CheckpointDir,
    DeviceName,
    Dropout,
    Restart,
    Resume,
    StatisticsFlag,
    checkpoint_folder,
    evaluations,
    output,
    prepare,
)
from cloud.training.paper.recipes import NETWORKS, OPTIMISERS, recipe
from cloud.training.paper.regimes import REGIMES
from cloud.training.paper.resolution import RESOLUTIONS
from cloud.training.paper.runs import Experiment, Places, run_experiment
from cloud.training.schedules import SCHEDULES
from shared.profiles import PROFILES
from shared.typer_app import run_app

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


def curve_table(name: str, curve: Curve, shown: tuple[str, ...]) -> Table:
    """Return a table over fractions: cost, and accuracy with its 95% interval by evaluation."""
    table = Table(title=f"{name}: {curve.test_images} test images")
    for heading in ("channels", *shown, "multiply-accumulates", "parameters"):
        table.add_column(heading, justify="right")
    full = curve.points[-1]
    for point in curve.points:
        cells = []
        for evaluation in shown:
            share = point.accuracy[evaluation]
            low, high = wilson(share, curve.test_images)
            cells.append(f"{share:.2%} [{100 * low:.1f}, {100 * high:.1f}]")
        table.add_row(
            f"{point.fraction:.0%}",
            *cells,
            f"{point.macs:,} ({point.macs / full.macs:.1%})",
            f"{point.parameter_bytes:,} B",
        )
    return table


@app.command()
def experiment(
    network: Annotated[str, typer.Option(help=f"One of {', '.join(NETWORKS)}.")],
    regime_name: Annotated[str, typer.Option("--regime", help=f"One of {', '.join(REGIMES)}.")],
    data: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(KNOWN)}, or a folder of IDX files."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help=f"One of {', '.join(PROFILES)}, or values such as 1,0.8,0.1."),
    ] = None,
    ranges: Annotated[
        str | None, typer.Option(help="Ranges of multi-profile, such as 0-0.2:linear,0.2-1:linear.")
    ] = None,
    per_block: Annotated[
        bool, typer.Option("--per-block", help="With idp, every block draws its own fraction.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(help="Begin with the network of this regime, trained by its recipe."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of every stage.")] = None,
    batch: Annotated[int | None, typer.Option()] = None,
    optimiser: Annotated[str | None, typer.Option(help=f"One of {', '.join(OPTIMISERS)}.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0)] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0)] = None,
    augment: Annotated[str | None, typer.Option(help=f"One of {', '.join(AUGMENTATIONS)}.")] = None,
    schedule: Annotated[str | None, typer.Option(help=f"One of {', '.join(SCHEDULES)}.")] = None,
    resolution: Annotated[
        str | None,
        typer.Option(help=f"Resolution of training images, one of {', '.join(RESOLUTIONS)}."),
    ] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    statistics: StatisticsFlag = None,
    dropout: Dropout = False,
    data_dir: DataDir = Path("data"),
    checkpoint_dir: CheckpointDir = None,
    resume: Resume = False,
    restart: Restart = False,
    device: DeviceName = "auto",
    threads: Threads = 0,
) -> None:
    """Train one of the paper's networks and print its accuracy at 10 to 100% of the channels.

    Flags that are not given have the values of the network's recipe.
    """
    place = prepare(threads, device)
    given = {
        "data": data,
        "epochs": epochs,
        "batch": batch,
        "optimiser": optimiser,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "augment": augment,
        "schedule": schedule,
        "resolution": resolution,
        "seed": seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    own = replace(recipe(network), **changes)  # type: ignore[arg-type]
    wanted = Experiment(network, regime_name, own, profile, ranges, per_block=per_block)
    if start is not None:
        usual = replace(recipe(network), data=own.data, seed=own.seed)
        wanted = replace(wanted, start=Experiment(network, start, usual, profile))
    asked = evaluations(statistics, dropout)
    places = Places(data_dir, checkpoint_folder(checkpoint_dir), resume, restart, place)
    curve = run_experiment(wanted, places, asked)
    shown = tuple(evaluation.name for evaluation in asked) or curve.evaluations
    output().print(curve_table(wanted.name, curve, shown))


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
