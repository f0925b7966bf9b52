"""How commands end: a user's mistake is one line on standard error and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from shared.errors import TaperError

RED = "31"
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run_command(
    command: Callable[[Sequence[str] | None], object], arguments: Sequence[str] | None
) -> None:
    """Call ``command`` with ``arguments`` (None: those of the process) and exit if it fails.

    Nothing heavy is imported here, since a device pays for every import.
    """
    try:
        command(arguments)
    except TaperError as error:
        say(f"error: {error}", RED)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def say(text: str, colour: str = "") -> None:
    """Write one line to standard error, in an ANSI colour if a terminal shows it."""
    if colour and sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        text = f"\x1b[{colour}m{text}\x1b[0m"
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
