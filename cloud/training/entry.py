"""Start the commands of training."""

from __future__ import annotations

from importlib import import_module

from shared.command import needing_extra, run_command


def run(module: str) -> None:
    """Call ``main`` of ``module``; if torch is missing, print in one line how to install it."""

    def command(_: object) -> None:
        with needing_extra("train"):
            found = import_module(module)
        found.main()

    run_command(command, None)
