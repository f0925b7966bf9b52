"""Write files atomically: readers, also after a kill, see either the old file or the new one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import UsageError


@contextmanager
def replacing(path: Path, flag: str) -> Iterator[Path]:
    """Yield a new empty file beside ``path`` to write; at the end of the block it replaces
    ``path``.

    The new file is flushed to disk before it is renamed. If the block fails, ``path`` is unchanged.
    Both names have the same suffix, for writers that choose a format by it. Errors of the system
    become ``UsageError`` that names ``flag``, with which the user gave the path.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)  # flushes the new name
    except OSError as error:
        raise UsageError(f"{flag}: {path} cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
