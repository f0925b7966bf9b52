"""Run commands made with typer, with the option ``--version`` that all of them have."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from shared.command import program_name, run_command, version_line


def run_app(app: typer.Typer, arguments: Sequence[str] | None) -> None:
    """Run ``app`` by ``run_command``, with ``--version``; None: the process's arguments."""
    command = get_command(app)
    command.params += get_command(version_app).params
    run_command(lambda words: command(words, prog_name=program_name()), arguments)


def show_version(asked: bool) -> None:
    """Print the version and exit, if the flag is given."""
    if asked:
        sys.stdout.write(version_line() + "\n")
        raise typer.Exit


version_app = typer.Typer(add_completion=False)


@version_app.command()
def take_version(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=show_version,
            is_eager=True,
            expose_value=False,
            help="Print the version and stop.",
        ),
    ] = False,
) -> None:
    """Provide the signature of the option ``--version``, which commands copy; never called."""
