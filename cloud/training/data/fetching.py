"""Fetch data sets: from any source, files with the expected digests into the data folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.progress import Progress, TaskID

from cloud.training.data.digests import sha256
from cloud.training.data.known import KNOWN, Known
from cloud.training.data.sources import Folder, SourceError
from shared.atomic_file import replacing
from shared.errors import DatasetError, UsageError
from shared.images.idx import LARGEST_CONTENT, read_content


class _Bar:
    """A ``Meter`` that moves a progress bar of rich."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task, self._done = progress, task, 0
        self.total: float = 0

    def update(self, size: int) -> None:
        self._done += size
        if self._done > LARGEST_CONTENT:
            raise SourceError(f"gives more than {LARGEST_CONTENT} bytes")
        # A total of 0 means that the server does not report the size.
        self._progress.update(self._task, completed=self._done, total=self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Do nothing: the next file reuses the bar."""


def known(name: str) -> Known:
    """Return the data set of that name; ``UsageError`` lists the known names."""
    if name not in KNOWN:
        raise UsageError(f"data set {name!r} is unknown; known: {', '.join(KNOWN)}")
    return KNOWN[name]


def fetch(name: str, wanted: Known, data_dir: Path, progress: Progress) -> tuple[str, ...]:
    """Fetch the files of ``wanted`` into ``data_dir / name``; return the names of used sources.

    Files that are there and have the right digest are kept, so an interrupted fetch can be resumed.
    ``DatasetError`` gives the problem of every source.
    """
    folder = data_dir / name
    missing = {
        file: digest
        for file, digest in wanted.digests.items()
        if not ((folder / file).is_file() and sha256(read_content(folder / file)) == digest)
    }
    bar = progress.add_task(
        name, total=len(wanted.digests), completed=len(wanted.digests) - len(missing)
    )
    used: list[str] = []
    reasons: list[str] = []
    for source in (Folder(folder), *wanted.sources):
        if not missing:
            break
        task = progress.add_task(source.name, total=None)
        given: set[str] = set()
        try:
            with tempfile.TemporaryDirectory(prefix="taper-") as scratch:
                meter = _Bar(progress, task)
                for file, content in source.files(tuple(missing), Path(scratch), meter):
                    given.add(file)
                    digest = sha256(content)
                    if digest == missing.get(file):
                        _store(folder / file, content)
                        del missing[file]
                        used.append(source.name)
                        progress.advance(bar)
                    elif file in missing:
                        reasons.append(
                            f"{source.name}: {file} has SHA-256 {digest}; expected {missing[file]}"
                        )
            if lacking := missing.keys() - given:
                reasons.append(f"{source.name}: lacks {', '.join(sorted(lacking))}")
        except SourceError as error:
            reasons.append(f"{source.name}: {error}")
        progress.remove_task(task)
    if missing:
        lines = "".join(f"\n  {reason}" for reason in reasons)
        raise DatasetError(f"{name}: no source gave {', '.join(missing)}; tried:{lines}")
    return tuple(dict.fromkeys(used))


def _store(path: Path, content: bytes) -> None:
    """Write ``path`` atomically."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--data-dir: {path} cannot be written ({error.strerror})") from None
    with replacing(path, "--data-dir") as temporary:
        temporary.write_bytes(content)
