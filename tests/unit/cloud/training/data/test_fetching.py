"""Data sets are fetched from the first source that has them, checked, and written whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cloud.training.data.fetching import fetch
from shared.errors import DatasetError, UsageError
from tests.support.data_sets import (
    CONTENTS,
    QUIET,
    TINY,
    Fake,
    fill,
    stored,
)


class TestFetch:
    def test_files_that_are_there_are_enough(self, tmp_path: Path) -> None:
        fill(tmp_path / "tiny", CONTENTS)
        assert fetch("tiny", TINY, tmp_path, QUIET) == ()

    def test_compressed_files_that_are_there_are_unpacked(self, tmp_path: Path) -> None:
        fill(tmp_path / "tiny", CONTENTS, compressed=True)
        assert fetch("tiny", TINY, tmp_path, QUIET) == (f"folder {tmp_path / 'tiny'}",)
        assert CONTENTS.items() <= stored(tmp_path / "tiny").items()

    def test_a_wrong_digest_falls_through_to_the_next_source(self, tmp_path: Path) -> None:
        wrong = {**CONTENTS, "t10k-labels-idx1-ubyte": b"something else"}
        fill(tmp_path / "tiny", wrong)
        known = replace(TINY, sources=(Fake("bad", wrong), Fake("good", CONTENTS)))
        assert fetch("tiny", known, tmp_path, QUIET) == ("good",)
        assert stored(tmp_path / "tiny") == CONTENTS

    def test_what_a_source_gave_before_it_failed_is_kept(self, tmp_path: Path) -> None:
        first = dict(list(CONTENTS.items())[:2])
        known = replace(TINY, sources=(Fake("first", first, "broke"), Fake("second", CONTENTS)))
        assert fetch("tiny", known, tmp_path, QUIET) == ("first", "second")
        assert stored(tmp_path / "tiny") == CONTENTS

    def test_if_all_sources_fail_the_message_lists_all(self, tmp_path: Path) -> None:
        wrong = dict.fromkeys(CONTENTS, b"x")
        known = replace(
            TINY, sources=(Fake("one", {}, "no connection"), Fake("two", wrong), Fake("three", {}))
        )
        with pytest.raises(DatasetError) as caught:
            fetch("tiny", known, tmp_path, QUIET)
        lines = str(caught.value).splitlines()
        assert caught.value.exit_status == 4
        assert lines[0].startswith("tiny: no source gave train-images-idx3-ubyte, ")
        assert lines[1] == f"  folder {tmp_path / 'tiny'}: has none of the files"
        assert lines[2] == "  one: no connection"
        assert all("two: " in line and "expected" in line for line in lines[3:7])
        assert lines[7] == "  three: lacks " + ", ".join(sorted(CONTENTS))
        assert not (tmp_path / "tiny").exists()

    def test_a_broken_file_does_not_hide_the_good_ones_next_to_it(self, tmp_path: Path) -> None:
        folder = fill(tmp_path / "tiny", CONTENTS, compressed=True)
        (folder / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b broken")
        known = replace(TINY, sources=(Fake("rest", CONTENTS),))
        assert fetch("tiny", known, tmp_path, QUIET) == (f"folder {folder}", "rest")

    def test_a_kill_while_writing_leaves_no_half_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def killed(file: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("os.fsync", killed)
        known = replace(TINY, sources=(Fake("good", CONTENTS),))
        with pytest.raises(KeyboardInterrupt):
            fetch("tiny", known, tmp_path, QUIET)
        assert stored(tmp_path / "tiny") == {}

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        known = replace(TINY, sources=(Fake("good", CONTENTS),))
        with pytest.raises(UsageError, match=r"--data-dir: .*file.* cannot be written"):
            fetch("tiny", known, tmp_path / "file", QUIET)
