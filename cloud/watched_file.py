"""Files that may change while they are used."""

from __future__ import annotations

from pathlib import Path

from shared.errors import UsageError

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What tells one content of a file from the next without reading it; None: no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Watched:
    """A file and the stamp that it had when it was last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None

    def changed(self) -> bool:
        """Whether the file is there and not as it was when it was last read or tried."""
        now = stamp(self._path)
        return now is not None and now != self._stamp

    def read(self, flag: str) -> bytes:
        """The file's bytes; ``UsageError`` names ``flag``."""
        self._stamp = stamp(self._path)
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise UsageError(f"{flag}: {self._path} cannot be read ({error.strerror})") from None
