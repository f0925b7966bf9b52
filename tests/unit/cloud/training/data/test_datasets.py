"""Data sets are loaded from files, and their commands say what is wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud.training.data import command, datasets, fetching
from cloud.training.data.command import app
from cloud.training.data.datasets import load
from cloud.training.data.known import KNOWN
from shared.errors import DatasetError, ImageError, UsageError
from shared.images.idx import parse_idx, write_idx
from tests.support.data_sets import (
    CONTENTS,
    TINY,
    fill,
)


class TestLoad:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_a_folder_of_the_users(self, tmp_path: Path, compressed: bool) -> None:
        folder = fill(tmp_path / "mine", CONTENTS, compressed)
        train, test = (load(str(folder), tmp_path, split, 0.0) for split in ("train", "test"))
        assert train.images.shape == (20, 4, 5, 1)
        assert test.images.shape == (10, 4, 5, 1)
        assert test.labels.dtype == np.int64
        assert train.classes == test.classes == tuple("0123456789")
        joined = CONTENTS["t10k-images-idx3-ubyte"] + CONTENTS["t10k-labels-idx1-ubyte"]
        assert test.digest == hashlib.sha256(joined).hexdigest()

    def test_a_folder_of_colour_images_is_a_data_set(self, tmp_path: Path) -> None:
        for prefix in ("train", "t10k"):
            write_idx(
                tmp_path / f"{prefix}-images-idx4-ubyte", np.zeros((4, 2, 2, 3), dtype=np.uint8)
            )
            write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.arange(4, dtype=np.uint8) % 2)
        data = load(str(tmp_path), tmp_path, "train", 0.0)
        assert data.images.shape == (4, 2, 2, 3)
        assert data.classes == ("0", "1")

    @pytest.mark.parametrize(
        ("name", "array", "expected"),
        [
            ("train-labels-idx1-ubyte", np.arange(19) % 10, r"expected \(20,\)"),
            ("train-labels-idx1-ubyte", np.arange(20) % 10 * 2, "no gap"),
            ("train-labels-idx1-ubyte", np.ones(20), "no gap"),
            ("train-labels-idx1-ubyte", np.zeros(0), "no gap"),
            ("t10k-labels-idx1-ubyte", np.arange(10) + 1, "label 10; expected 0 to 9"),
            ("t10k-images-idx3-ubyte", np.zeros((10, 5, 5)), r"shape \(5, 5\); expected \(4, 5\)"),
            ("t10k-images-idx3-ubyte", np.zeros((10, 5)), r"expected \(N, H, W\)"),
            ("train-images-idx3-ubyte", np.zeros((0, 4, 5)), "none of them 0"),
        ],
    )
    def test_errors_name_the_file(
        self, tmp_path: Path, name: str, array: np.typing.NDArray[np.generic], expected: str
    ) -> None:
        fill(tmp_path, CONTENTS)
        write_idx(tmp_path / name, array.astype(np.uint8))
        with pytest.raises(ImageError, match=expected) as caught:
            load(str(tmp_path), tmp_path, "train" if name.startswith("train") else "test")
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(
            ImageError, match="no file train-images-idx3-ubyte or train-images-idx4"
        ):
            load(str(tmp_path), tmp_path, "train")

    def test_a_name_that_is_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="known: mnist, fashion-mnist, cifar10"):
            load("emnist", tmp_path, "train")

    def test_a_data_set_that_was_not_fetched(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=f"fetch mnist --data-dir {tmp_path}`"):
            load("mnist", tmp_path, "train")

    def test_a_data_set_that_was_changed(self, tmp_path: Path) -> None:
        fill(tmp_path / "mnist", CONTENTS)
        with pytest.raises(DatasetError, match="train-images-idx3-ubyte: its SHA-256 is wrong"):
            load("mnist", tmp_path, "train")

    def test_a_fetched_data_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets, "KNOWN", {"tiny": replace(TINY, classes=tuple("abcdefghij"))})
        fill(tmp_path / "tiny", CONTENTS)
        data = load("tiny", tmp_path, "test")
        assert data.name == "tiny"
        assert data.classes == tuple("abcdefghij")
        assert data.labels.tolist() == list(range(10))


class TestCommands:
    @pytest.fixture(autouse=True)
    def tiny(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # as mnist, because the sample is picked from it
        monkeypatch.setattr(datasets, "KNOWN", {"mnist": TINY})
        monkeypatch.setattr(fetching, "KNOWN", {"mnist": TINY})

    def test_fetch_says_where_the_files_are(self, tmp_path: Path) -> None:
        fill(tmp_path / "mnist", CONTENTS)
        result = CliRunner().invoke(app, ["fetch", "mnist"], env={"TAPER_DATA": str(tmp_path)})
        assert result.exit_code == 0
        assert f"mnist: 4 files in {tmp_path / 'mnist'}, already there" in result.output

    def test_an_unknown_name_ends_with_status_2(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.argv", ["datasets", "fetch", "emnist"])
        with pytest.raises(SystemExit) as caught:
            command.main()
        assert caught.value.code == 2
        assert "data set 'emnist' is unknown; known: mnist" in capsys.readouterr().err

    def test_sources_that_fail_end_with_status_4(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.argv", ["datasets", "fetch", "mnist", "--data-dir", str(tmp_path)])
        with pytest.raises(SystemExit) as caught:
            command.main()
        assert caught.value.code == 4

    def test_info_shows_shapes_counts_and_digests(self, tmp_path: Path) -> None:
        fill(tmp_path / "mnist", CONTENTS)
        result = CliRunner().invoke(
            app, ["info", "mnist", "--data-dir", str(tmp_path), "--validation", "0"]
        )
        assert "(20, 4, 5, 1)" in result.output
        assert f"test SHA-256 {load('mnist', tmp_path, 'test').digest}" in result.output

    def test_sample_picks_as_many_of_each_class_every_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command, "SAMPLE_PER_CLASS", 1)
        fill(tmp_path / "mnist", CONTENTS)
        words = ["sample", "--data-dir", str(tmp_path), "--output", str(tmp_path)]
        assert CliRunner().invoke(app, words).exit_code == 0
        first = (tmp_path / "mnist-sample-labels-idx1-ubyte.gz").read_bytes()
        labels = parse_idx(first, "")
        assert sorted(labels.tolist()) == list(range(10))
        CliRunner().invoke(app, words)
        assert (tmp_path / "mnist-sample-labels-idx1-ubyte.gz").read_bytes() == first


def test_every_known_data_set_has_four_files_and_its_classes() -> None:
    for known in KNOWN.values():
        assert len(known.digests) == 4
        assert len(known.classes) == len(set(known.classes)) == 10
        assert all(len(digest) == 64 for digest in known.digests.values())
