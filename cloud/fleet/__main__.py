"""``python -m cloud.fleet``: the commands to run, watch and control a fleet of devices."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import typer

from cloud.fleet import archive, enrol, operate, play, record, watch
from cloud.fleet.rollout import commands as rollout
from shared.typer_app import run_app

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
app.command(name="set")(operate.set_)
app.command()(operate.get)
app.command()(operate.retire)
app.command()(enrol.enrol)
app.command()(watch.watch)
app.command()(record.record)
app.command()(play.play)
app.command()(play.run)
app.command()(archive.export)
app.command()(archive.report)
app.add_typer(rollout.app, name="rollout")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    run_app(app, arguments)


if __name__ == "__main__":
    main()
