"""Code that all commands share: name and version, messages, and exit status.

Large packages are not imported at the top, since every import costs a device time and memory.
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
INTERRUPTED = 130  # 128 + SIGINT, the shells' convention


def run_command(
    command: Callable[[Sequence[str] | None], object], arguments: Sequence[str] | None
) -> None:
    """Call ``command`` with ``arguments`` (None: those of the process) and exit if it fails.

    A ``TaperError`` is printed as one line on standard error and gives its exit status. An
    exception group counts as its first ``TaperError`` if it holds nothing else.
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
        # The reader of our output has gone, or its disk is full; Python's final flush would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            say(f"error: the output cannot be written ({error.strerror})", RED)
        sys.exit(1)


def end_with(error: TaperError) -> NoReturn:
    """Print ``error`` in one line and end the process with its exit status."""
    say(f"error: {error}", RED)
    sys.exit(error.exit_status)


def first_of(group: BaseExceptionGroup[Raised]) -> Raised:
    """Return the first error of a group, at any depth."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


def say(text: str, colour: str = "") -> None:
    """Write one line to standard error, in an ANSI colour if that is a terminal."""
    if colour and sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        text = f"\x1b[{colour}m{text}\x1b[0m"
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def program_name() -> str:
    """Return how this program was started: ``taper-device`` or ``python -m device.client``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return Path(sys.argv[0]).name
    return f"python -m {spec.name.removesuffix('.__main__')}"


def version_line() -> str:
    """Return the line that ``--version`` prints: program and installed version."""
    return f"{program_name()} {installed_version()}"


@contextmanager
def needing_extra(extra: str, flag: str = "") -> Iterator[None]:
    """Import packages of ``extra`` in the block.

    A missing package raises ``UsageError`` that says how to install the extra. The message begins
    with ``flag`` if the packages are only needed for that flag.
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
    """An argparse parser that behaves like typer's: one line for a mistake, and ``--version``."""

    def __init__(self, **settings: object) -> None:
        super().__init__(prog=program_name(), allow_abbrev=False, **settings)  # type: ignore[arg-type]
        self.add_argument("--version", action=_Version, help="print the version and stop")

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError`` with one line instead of printing a page."""
        raise UsageError(message.removeprefix("argument "))


class _Version(argparse.Action):
    """Prints the version and exits; looks it up only then, as that takes some milliseconds."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        sys.stdout.write(version_line() + "\n")
        sys.stdout.flush()
        parser.exit()
