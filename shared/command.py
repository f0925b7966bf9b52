"""What every command shares: its name and version, its messages, and how it ends.

Nothing heavy is imported at the top: a device pays for every import.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from shared.errors import TaperError, UsageError
from shared.version import installed_version

OUR_PACKAGES = ("device", "cloud", "shared", "protos")
RED = "31"
Raised = TypeVar("Raised", bound=BaseException)
UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EIO)
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def run_command(
    command: Callable[[Sequence[str] | None], object], arguments: Sequence[str] | None
) -> None:
    """Call ``command`` with ``arguments`` (None: those of the process) and exit if it fails.

    A user's mistake becomes one line on standard error and its exit status. An exception group
    counts as its first ``TaperError`` if it holds nothing else.
    """
    try:
        command(arguments)
    except TaperError as error:
        end_with(error)
    except BaseExceptionGroup as group:
        ours, others = group.split(TaperError)
        if ours is None or others is not None:
            raise
        end_with(first_of(ours))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        # Nobody reads our output, or its disk is full; Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            say(f"error: the output cannot be written ({error.strerror})", RED)
        sys.exit(1)


def end_with(error: TaperError) -> NoReturn:
    """Print ``error`` in one line and end the process with its exit status."""
    say(f"error: {error}", RED)
    sys.exit(error.exit_status)


def first_of(group: BaseExceptionGroup[Raised]) -> Raised:
    """The first error of a group, however deep it lies."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


def say(text: str, colour: str = "") -> None:
    """Write one line to standard error, in an ANSI colour if a terminal shows it."""
    if colour and sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        text = f"\x1b[{colour}m{text}\x1b[0m"
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def program_name() -> str:
    """The words that started this program: ``taper-device`` or ``python -m device.client``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return Path(sys.argv[0]).name
    return f"python -m {spec.name.removesuffix('.__main__')}"


def version_line() -> str:
    """What ``--version`` prints: the program and the version that is installed."""
    return f"{program_name()} {installed_version()}"


@contextmanager
def needing_extra(extra: str, flag: str = "") -> Iterator[None]:
    """For imports of packages that only ``extra`` installs.

    One that is missing becomes a ``UsageError`` that says how to install the extra; it begins with
    ``flag`` if the imports serve that flag alone.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in OUR_PACKAGES:
            raise
        raise UsageError(
            f"{flag and flag + ': '}{error.name} is not installed; install taper's extra "
            f"{extra!r}, from a checkout: pip install '.[{extra}]', or from a wheel: "
            f"pip install 'taper_split-VERSION.whl[{extra}]'"
        ) from None


class Parser(argparse.ArgumentParser):
    """A command line of argparse like those of typer: one line for a mistake, ``--version``."""

    def __init__(self, **settings: object) -> None:
        super().__init__(prog=program_name(), allow_abbrev=False, **settings)  # type: ignore[arg-type]
        self.add_argument("--version", action=_Version, help="print the version and stop")

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError`` with one line instead of printing a page."""
        raise UsageError(message.removeprefix("argument "))


class _Version(argparse.Action):
    """Prints the version and stops; looks it up only then, which takes some milliseconds."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        sys.stdout.write(version_line() + "\n")
        sys.stdout.flush()
        parser.exit()
