"""Watch a folder and its subfolders for files written or moved there, by Linux's inotify."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.command import needing_extra
from shared.errors import ImageError
from shared.images.folders import is_array, is_named_picture

LOOK_MS = 200  # milliseconds after which ``paths`` yields None if no file has arrived
SETTLED_S = 1.0  # a file found in a new subfolder counts as complete after this quiet time


class WatchedFolder:
    """Watches ``folder`` from now on. Use as ``with``; ``ImageError`` if that cannot be done.

    A file counts when its writer has closed it or when it has been moved here. Hidden and empty
    files and files without a picture's suffix are ignored.
    """

    def __init__(self, folder: Path) -> None:
        with needing_extra("video", "--watch"):
            from inotify_simple import INotify, flags
        if not folder.is_dir():
            raise ImageError(f"--watch: {folder} is not a folder")
        self._flags = flags
        self._mask = flags.CLOSE_WRITE | flags.MOVED_TO | flags.CREATE | flags.ONLYDIR
        self._events = INotify()
        self._folders: dict[int, Path] = {}
        self._found: dict[Path, float] = {}  # files of new subfolders, by time of completion
        self.folder = folder

    def __enter__(self) -> Self:
        try:
            self._add(self.folder, search=False)
        except OSError as error:
            self._events.close()
            hint = ""
            if error.errno == errno.ENOSPC:
                hint = "; raise fs.inotify.max_user_watches"
            raise ImageError(
                f"--watch: {self.folder} cannot be watched ({error.strerror}{hint})"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._events.close()

    def paths(self) -> Iterator[Path | None]:
        """Yield every new file, or None every ``LOOK_MS`` without one; ends if the folder
        vanishes.
        """
        while self._folders:
            for event in self._events.read(timeout=LOOK_MS):
                if event.mask & self._flags.Q_OVERFLOW:
                    for folder in tuple(self._folders.values()):
                        self._search(folder)
                    continue
                path = self._path(event.wd, event.mask, event.name)
                if path is not None:
                    yield path
            yield from self._settled()
            yield None

    def _path(self, number: int, mask: int, name: str) -> Path | None:
        """Return the file of an event if it is a complete picture; else None."""
        if mask & self._flags.IGNORED:
            self._folders.pop(number, None)
            return None
        folder = self._folders.get(number)
        if folder is None or name.startswith("."):
            return None
        path = folder / name
        if mask & self._flags.ISDIR:
            try:
                self._add(path, search=True)
            except OSError:  # deleted meanwhile, or not readable
                return None
            return None
        if mask & self._flags.CREATE:
            return None
        self._found.pop(path, None)
        return path if _is_picture(path) else None

    def _add(self, folder: Path, search: bool) -> None:
        self._folders[self._events.add_watch(folder, self._mask)] = folder
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                self._add(path, search)
        if search:
            self._search(folder)

    def _search(self, folder: Path) -> None:
        """Record files that appeared before the folder was watched."""
        due_s = time.monotonic() + SETTLED_S
        self._found.update((path, due_s) for path in folder.iterdir() if _is_picture(path))

    def _settled(self) -> list[Path]:
        now_s = time.monotonic()
        whole = [path for path, due_s in self._found.items() if due_s <= now_s]
        for path in whole:
            del self._found[path]
        return [path for path in whole if path.exists()]


def _is_picture(path: Path) -> bool:
    hidden = path.name.startswith(".")
    if hidden or is_array(path) or not is_named_picture(path):
        return False
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False
