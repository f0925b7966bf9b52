"""A file is there as a whole, or as it was before."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from shared.atomic_file import replacing
from shared.errors import UsageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_content_comes_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with replacing(path, "--output") as new:
        new.write_text("new")
        assert path.read_text() == "old"
        assert new.suffix == ".json"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["results.json"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path, "--output") as new:
            new.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["results.json"]


def test_two_writers_of_one_path_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with replacing(path, "--output") as first, replacing(path, "--output") as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["results.json"]


def test_others_may_read_the_file_as_any_other(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    with replacing(tmp_path / "results.json", "--output"):
        pass
    made = stat.S_IMODE((tmp_path / "results.json").stat().st_mode)
    assert made == stat.S_IMODE(usual.stat().st_mode)


@pytest.mark.parametrize("place", ["missing/results.json", "folder"])
def test_a_place_that_cannot_be_written_is_named_with_its_flag(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    path = tmp_path / place
    with (
        pytest.raises(UsageError, match=rf"^--figure: {path} cannot be written \(.+\)$"),
        replacing(path, "--figure") as new,
    ):
        new.write_text("x")
    assert names(tmp_path) == ["folder"]
