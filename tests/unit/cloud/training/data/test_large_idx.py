"""Compressed IDX files are expanded on the disk, whatever their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud.training.data import large_idx
from cloud.training.data.large_idx import open_any_idx
from shared.errors import ImageError
from shared.images.idx import write_idx

IMAGES = np.arange(60, dtype=np.uint8).reshape(5, 3, 4)


@pytest.mark.parametrize("name", ["images-idx3-ubyte", "images-idx3-ubyte.gz"])
def test_plain_and_compressed_are_mapped_and_equal(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path / name, IMAGES)
    monkeypatch.setattr("shared.images.idx.LARGEST_CONTENT", 10)  # of what is held in memory
    found = open_any_idx(tmp_path / name)
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, IMAGES)


def test_broken_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "images-idx3-ubyte.gz"
    write_idx(path, IMAGES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ImageError, match=r"ubyte\.gz: cannot be expanded"):
        open_any_idx(path)
    path.write_bytes(whole)
    monkeypatch.setattr(large_idx, "LARGEST_EXPANDED", 50)
    with pytest.raises(ImageError, match=r"ubyte\.gz: expands to more than 50 bytes"):
        open_any_idx(path)
    with pytest.raises(ImageError, match="is not a file"):
        open_any_idx(tmp_path)
