"""A watched folder: whole files, once each, however they come."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device.live.watching import WatchedFolder
from shared.errors import ImageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched"


def come(paths: Iterator[Path | None], count: int, limit_s: float = 5.0) -> list[str]:
    """The names of the next ``count`` files, or of those that come within the limit."""
    found: list[str] = []
    end_s = time.monotonic() + limit_s
    for path in paths:
        if path is not None:
            found.append(path.name)
        if len(found) >= count or time.monotonic() > end_s:
            break
    return found


def test_files_written_or_moved_in_come_once_when_they_are_whole(folder: Path) -> None:
    (folder / "before.png").write_bytes(b"was there")
    (folder.parent / "elsewhere.jpg").write_bytes(b"x")
    with WatchedFolder(folder) as watched:
        paths = watched.paths()
        with (folder / "slow.png").open("wb") as file:
            file.write(b"half")
            file.flush()
            assert come(paths, 1, 0.5) == []
            file.write(b"whole")
        (folder.parent / "elsewhere.jpg").rename(folder / "moved.jpg")
        for name in ("notes.txt", ".hidden.png", "array.npy"):
            (folder / name).write_bytes(b"x")
        (folder / "empty.png").touch()
        shutil.copy(folder / "slow.png", folder / "last.png")
        assert come(paths, 4, 1.0) == ["slow.png", "moved.jpg", "last.png"]


def test_new_subfolders_are_watched_too(folder: Path) -> None:
    (folder / "old").mkdir()
    day = folder.parent / "day"
    day.mkdir()
    (day / "filled.png").write_bytes(b"x")
    with WatchedFolder(folder) as watched:
        paths = watched.paths()
        (folder / "old" / "a.png").write_bytes(b"x")
        day.rename(folder / "day")
        assert sorted(come(paths, 2)) == ["a.png", "filled.png"]
        (folder / "day" / "later.png").write_bytes(b"x")
        (folder / "day" / "deep").mkdir()
        (folder / "day" / "deep" / "b.png").write_bytes(b"x")
        assert sorted(come(paths, 2)) == ["b.png", "later.png"]
        assert come(paths, 1, 1.5) == []


def test_a_folder_that_is_removed_ends_it(folder: Path) -> None:
    with WatchedFolder(folder) as watched:
        shutil.rmtree(folder)
        assert [path for path in watched.paths() if path] == []


def test_what_is_no_folder_is_named(folder: Path) -> None:
    with pytest.raises(ImageError, match=r"--watch: .* is not a folder"):
        WatchedFolder(folder / "nothing")
    os.close(os.open(folder / "file", os.O_CREAT))
    with pytest.raises(ImageError, match="is not a folder"):
        WatchedFolder(folder / "file")
