"""Detect that a file has changed since it was last read."""

from __future__ import annotations

from pathlib import Path

from shared.errors import UsageError

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """Modification time, size and inode of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Watched:
    """A file with the stamp of its last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None

    def changed(self) -> bool:
        """Whether the file exists and differs from its last read."""
        now = stamp(self._path)
        return now is not None and now != self._stamp

    def read(self, flag: str) -> bytes:
        """The file's bytes; raises ``UsageError`` that names ``flag``."""
        self._stamp = stamp(self._path)
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise UsageError(f"{flag}: {self._path} cannot be read ({error.strerror})") from None
