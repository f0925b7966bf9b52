"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write, beside ``path``, which it replaces at the end of the block."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch()
    except OSError as error:
        raise UsageError(f"--output: {path} cannot be written ({error.strerror})") from None
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"--output: {path} cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)
