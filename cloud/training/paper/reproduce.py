"""``python -m cloud.training.reproduce FIGURE``: train and draw the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cloud.training.data.datasets import load
from cloud.training.flags import DataDir, Threads
from cloud.training.paper.curve import (
    Runs,
    check_alike,
    read_results,
    with_run,
    write_results,
    write_text,
)
from cloud.training.paper.drawing import draw
from cloud.training.paper.figures import PLANS, Plan, plan
from cloud.training.paper.flags import (
    CheckpointDir,
    DeviceName,
    Dropout,
    Restart,
    Resume,
    StatisticsFlag,
    checkpoint_folder,
    evaluations,
    made,
    output,
    prepare,
)
from cloud.training.paper.runs import Places, console, run_experiment
from cloud.training.paper.summary import as_markdown, as_table, seeds_note, summaries, table_rows
from cloud.training.paper.sweep import PAPER_PROTOCOL, Evaluation, Statistics
from shared.errors import UsageError
from shared.typer_app import run_app

# The evaluations that tables show; the first is the main result.
SHOWN = (
    Evaluation(Statistics.RECALIBRATED),
    Evaluation(Statistics.BATCH),
    PAPER_PROTOCOL,
    Evaluation(Statistics.RUNNING),
)
CAPTIONS = {
    "recalibrated": "statistics measured for each width on training images",
    "batch": "statistics of the test batch (transductive: depends on the neighbouring images)",
    "running": "running statistics of training",
}

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@dataclass(frozen=True)
class Request:
    """What to train and measure, apart from what a figure's results hold already."""

    changes: Mapping[str, Any]  # changes to the recipes
    seeds: tuple[int, ...]
    evaluations: tuple[Evaluation, ...]  # in addition to the usual ones
    replace: bool  # drop runs with other settings


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
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every stage, in place of ours.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Seeds such as 1,2,3, with a training for each.")
    ] = "1",
    statistics: StatisticsFlag = None,
    dropout: Dropout = False,
    data_dir: DataDir = Path("data"),
    checkpoint_dir: CheckpointDir = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of results and figures.")] = Path(
        "docs/results"
    ),
    resume: Resume = False,
    restart: Restart = False,
    replace_runs: Annotated[
        bool,
        typer.Option("--replace", help="Discard results in the file that have other settings."),
    ] = False,
    plot_only: Annotated[
        bool, typer.Option("--plot-only", help="Draw the results that are there; train nothing.")
    ] = False,
    device: DeviceName = "auto",
    threads: Threads = 0,
) -> None:
    """Train what is missing of a figure, sweep 10 to 100% of the channels, write and draw it.

    Results are kept as they come: a seed of a curve of FIGURE.json that was made with the same
    settings is not made again, and a finished checkpoint is only measured. Runs with other
    settings are refused rather than mixed.
    """
    place = prepare(threads, device)
    given = {"data": data, "epochs": epochs}
    changes = {name: value for name, value in given.items() if value is not None}
    asked = evaluations(statistics, dropout)
    request = Request(changes, parse_seeds(seeds), asked, replace_runs)
    names = list(PLANS) if figure == "all" else [figure]
    plans = {name: _chosen(plan(name), only) for name in names}
    made(output_dir, "--output-dir")
    for name, entry in plans.items():
        path = output_dir / f"{name}.json"
        if not plot_only:
            folder = checkpoint_folder(checkpoint_dir)
            places = Places(data_dir, folder, resume, restart, place)
            _train_missing(name, entry, request, places, path)
        results = read_results(path)
        known = {line: results[line] for line in PLANS[name].lines if line in results}
        if not known:
            raise UsageError(f"--plot-only: {path} has no curves yet")
        shown = _tables(name, known, asked or SHOWN)
        for title, rows in shown.items():
            output().print(as_table(title, rows))
        page = path.with_suffix(".md")
        write_text(page, _page(name, known))
        for written in (path, page, *draw(name, known, output_dir)):
            console.print(f"{written}", highlight=False, soft_wrap=True)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read "1,2,3"; ``UsageError`` quotes anything else."""
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seeds: {text!r} is not of the form 1,2,3") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"--seeds: {text!r} repeats a seed or has a negative one")
    return seeds


def _train_missing(name: str, entry: Plan, request: Request, places: Places, path: Path) -> None:
    for line in entry.lines:
        for seed in request.seeds:
            experiment = entry.experiment(line, {**request.changes, "seed": seed})
            train_set = load(experiment.recipe.data, places.data_dir, "train", validation=0.0)
            wanted = experiment.identity(train_set)
            runs = read_results(path).get(line, ())
            check_alike(path, runs, wanted, replace=request.replace)
            if not places.restart and _is_there(runs, wanted, request.evaluations):
                continue
            console.print(f"{name}: {line}, seed {seed}", highlight=False, markup=False)
            curve = run_experiment(experiment, places, request.evaluations)
            # Read again, as another process may have added a curve to the same figure.
            results = read_results(path)
            results[line] = with_run(path, results.get(line, ()), curve, replace=request.replace)
            write_results(path, name, PLANS[name].title, results, summaries(results))


def _is_there(runs: Runs, wanted: Mapping[str, Any], asked: Sequence[Evaluation]) -> bool:
    return any(
        all(run.settings.get(key) == value for key, value in wanted.items())
        and all(evaluation.name in run.evaluations for evaluation in asked)
        for run in runs
    )


def _chosen(entry: Plan, only: list[str] | None) -> Plan:
    if not only:
        return entry
    for line in only:
        if line not in entry.lines:
            raise UsageError(f"--only: {line!r} is unknown; known: {', '.join(entry.lines)}")
    return replace(entry, lines={line: entry.lines[line] for line in only})


def _tables(
    name: str, results: Mapping[str, Runs], shown: Sequence[Evaluation]
) -> dict[str, list[list[str]]]:
    """Return the rows of a table for each evaluation that at least one line has, by title."""
    tables = {}
    for evaluation in shown:
        caption = CAPTIONS[evaluation.statistics.value]
        left = "; dropout left on" if evaluation.dropout else ""
        tables[f"{name}, percent, {caption}{left}"] = table_rows(results, evaluation.name)
    return {title: rows for title, rows in tables.items() if rows}


def _page(name: str, results: Mapping[str, Runs]) -> str:
    first = next(iter(results.values()))[0]
    parts = [
        f"# {PLANS[name].title}\n",
        f"Written by `python -m cloud.training.reproduce {name}`. Percent of {first.test_images:,} "
        "test images with the 95% interval (Wilson) in brackets; with several seeds the mean, ± "
        f"the standard deviation over them ({seeds_note(results)}).\n",
    ]
    for title, rows in _tables(name, results, SHOWN).items():
        parts += [f"## {title}\n", as_markdown(rows)]
    return "\n".join(parts)


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
