"""Write files so that a reader, or a kill at any moment, sees the old file or the new one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import UsageError


@contextmanager
def replacing(path: Path, flag: str) -> Iterator[Path]:
    """Yield a new empty file beside ``path`` to write; at the end of the block it becomes ``path``.

    It is on the disk before it takes the name. If the block fails, ``path`` stays as it was. Both
    names end alike, for writers that choose a format by it. What the system refuses becomes a
    ``UsageError`` that names ``flag``, where the user gave the path.
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)  # the name itself
    except OSError as error:
        raise UsageError(f"{flag}: {path} cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
