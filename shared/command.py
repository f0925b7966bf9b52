"""How commands end: a user's mistake is one line and its exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from shared.errors import TaperError


def run_command(
    app: Callable[[Sequence[str] | None], object], arguments: Sequence[str] | None
) -> None:
    """Run a typer application; no arguments given means those of the process."""
    try:
        app(arguments)
    except TaperError as error:
        console = Console(stderr=True, soft_wrap=True)
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)
