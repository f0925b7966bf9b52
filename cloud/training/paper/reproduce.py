"""``python -m cloud.training.reproduce FIGURE``: the paper's figures, trained and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cloud.training.data.datasets import load
from cloud.training.paper.curve import Curve
from cloud.training.paper.experiment import (
    CHECKPOINT_DIR,
    CheckpointDir,
    DataDir,
    Places,
    Restart,
    Resume,
    Threads,
    console,
    prepare,
    run_experiment,
)
from cloud.training.paper.figures import PLANS, Plan, draw, plan, read_curves, write_curves
from shared.errors import UsageError
from shared.typer_app import run_app

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def reproduce(
    figure: Annotated[str, typer.Argument(help=f"One of {', '.join(PLANS)}, or all.")],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="A curve of the figure; may be given several times."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A data set in place of the figure's own.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of every stage, in place of ours.")] = None,
    seed: Annotated[int | None, typer.Option(help="1 if not given.")] = None,
    data_dir: DataDir = Path("data"),
    checkpoint_dir: CheckpointDir = CHECKPOINT_DIR,
    output_dir: Annotated[Path, typer.Option(help="Folder of results and figures.")] = Path(
        "docs/results"
    ),
    resume: Resume = False,
    restart: Restart = False,
    plot_only: Annotated[
        bool, typer.Option("--plot-only", help="Draw the results that are there; train nothing.")
    ] = False,
    threads: Threads = 0,
) -> None:
    """Train what is missing of a figure, sweep 10 to 100% of the channels, write and draw it.

    Results are kept as they come: a curve of FIGURE.json that was made with the same settings is
    not made again, and a finished checkpoint is only measured.
    """
    prepare(threads)
    given = {"data": data, "epochs": epochs, "seed": seed}
    changes = {name: value for name, value in given.items() if value is not None}
    names = list(PLANS) if figure == "all" else [figure]
    plans = {name: _chosen(plan(name), only) for name in names}
    output_dir.mkdir(parents=True, exist_ok=True)
    places = Places(data_dir, checkpoint_dir, resume, restart)
    for name, entry in plans.items():
        path = output_dir / f"{name}.json"
        curves = read_curves(path)
        if not plot_only:
            _train_missing(name, entry, curves, changes, places, path)
        known = {line: curves[line] for line in PLANS[name].lines if line in curves}
        if not known:
            raise UsageError(f"--plot-only: {path} has no curves yet")
        Console().print(_table(name, known, "accuracy"))
        Console().print(_table(name, known, "recalibrated"))
        for written in (path, *draw(name, known, output_dir)):
            console.print(f"{written}", highlight=False, soft_wrap=True)


def _train_missing(
    name: str,
    entry: Plan,
    curves: dict[str, Curve],
    changes: dict[str, Any],
    places: Places,
    path: Path,
) -> None:
    for line in entry.lines:
        experiment = entry.experiment(line, changes)
        train_set = load(experiment.recipe.data, places.data_dir, "train", validation=0.0)
        wanted = experiment.identity(train_set)
        found = curves[line].settings if line in curves else {}
        if not places.restart and all(found.get(key) == value for key, value in wanted.items()):
            continue
        console.print(f"{name}: {line}", highlight=False, markup=False)
        curve = run_experiment(experiment, places)
        # Another process may have written a curve of the same figure meanwhile.
        curves.update({**read_curves(path), line: curve})
        write_curves(path, name, curves)


def _chosen(entry: Plan, only: list[str] | None) -> Plan:
    if not only:
        return entry
    for line in only:
        if line not in entry.lines:
            raise UsageError(f"--only: {line!r} is unknown; known: {', '.join(entry.lines)}")
    return replace(entry, lines={line: entry.lines[line] for line in only})


def _table(name: str, curves: dict[str, Curve], what: str) -> Table:
    first = next(iter(curves.values()))
    table = Table(title=f"{name}: {what} on {first.test_images} test images, percent")
    table.add_column("channels", justify="right")
    table.add_column("operations", justify="right")
    for line in curves:
        table.add_column(line, justify="right")
    for index, point in enumerate(first.points):
        table.add_row(
            f"{point.fraction:.0%}",
            f"{point.macs / first.points[-1].macs:.1%}",
            *(f"{100 * getattr(curve.points[index], what):.2f}" for curve in curves.values()),
        )
    return table


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
