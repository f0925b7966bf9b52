"""The commands that read the telemetry store: ``export`` and ``report``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cloud.fleet.flags import (
    STORE,
    Fleet,
    Output,
    Since,
    StoreUrl,
    parse_fleet,
    parse_since,
)
from shared.command import needing_extra

stderr = Console(stderr=True)


def export(
    output: Output,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="**parquet** or **csv**; by default that of the file's name."
        ),
    ] = None,
    store: StoreUrl = STORE,
    fleet: Fleet = "default",
    since: Since = None,
) -> None:
    """Write stored telemetry to a Parquet or CSV file."""
    with needing_extra("fleet"):
        from cloud.telemetry.database import reading
        from cloud.telemetry.export import parse_format, write
        from cloud.telemetry.queries import check_fleet, count_rows, newest_s, rows
    kind, name = parse_format(form, output), parse_fleet(fleet)
    parse_since(since)
    with reading(store) as connection:
        check_fleet(connection, name)
        since_s = parse_since(since, newest_s(connection, name))
        with progress("rows", count_rows(connection, name, since_s)) as advance:
            count = write(output, kind, rows(connection, name, since_s), advance)
    typer.echo(f"{output}: {count} rows")


def report(
    output: Output = Path("report.html"),
    store: StoreUrl = STORE,
    fleet: Fleet = "default",
    since: Since = None,
) -> None:
    """Write an HTML page with figures: accuracy, fraction, battery, bytes, energy, latency."""
    with needing_extra("fleet"):
        from cloud.telemetry.database import reading
        from cloud.telemetry.queries import check_fleet, newest_s
        from cloud.telemetry.report import render
        from shared.atomic_file import replacing
    name = parse_fleet(fleet)
    parse_since(since)
    with replacing(output, "--output") as temporary, reading(store) as connection:
        check_fleet(connection, name)
        since_s = parse_since(since, newest_s(connection, name))
        with stderr.status("reading and drawing"):
            temporary.write_text(render(connection, name, since_s))
    typer.echo(f"{output}: {output.stat().st_size / 1000:.0f} KB")


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if standard error is a terminal; yields a function that advances it."""
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(text, total=total)
        yield lambda step: bar.advance(task, step)
