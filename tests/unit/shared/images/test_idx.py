from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from shared.data.sample import sample_digits
from shared.errors import ImageError
from shared.images import idx
from shared.images.idx import expand, format_idx, parse_idx, read_idx, write_idx

PAIR = b"\x00\x00\x08\x02\x00\x00\x00\x01\x00\x00\x00\x02\x07\xff"


def test_parses_the_bytes_of_the_format() -> None:
    array = parse_idx(PAIR, "pair")
    assert array.tolist() == [[7, 255]]
    assert array.dtype == np.uint8
    assert array.flags.writeable
    assert format_idx(array) == PAIR


@pytest.mark.parametrize("name", ["digits-idx3-ubyte", "digits-idx3-ubyte.gz"])
def test_reads_what_it_wrote(tmp_path: Path, name: str) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / name, array)
    assert np.array_equal(read_idx(tmp_path / name), array)
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")


def test_a_view_is_written_in_its_own_order(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3).T
    write_idx(tmp_path / "view", array)
    assert read_idx(tmp_path / "view").tolist() == array.tolist()


def test_compression_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(PAIR)
    (tmp_path / "packed").write_bytes(gzip.compress(PAIR, mtime=0))
    assert read_idx(tmp_path / "plain.gz").tolist() == [[7, 255]]
    assert read_idx(tmp_path / "packed").tolist() == [[7, 255]]


def test_compressed_files_hold_no_time_and_no_name(tmp_path: Path) -> None:
    array = np.zeros(9, dtype=np.uint8)
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "b.gz", array)
    content = (tmp_path / "a.gz").read_bytes()
    assert content == (tmp_path / "b.gz").read_bytes()
    assert content[3:8] == bytes(5)  # no flags, time 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "starts with 00 00 08"),
        (b"\x00\x00\x08", "starts with 00 00 08"),
        (b"\x89PNG\r\n", "starts with 00 00 08"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "expected 0x08"),
        (b"\x00\x00\x08\xff", "255 dimensions; expected at most 64"),
        (b"\x00\x00\x08\x02\x00\x00\x00\x01", "a header of 12 bytes"),
        (PAIR[:-1], "holds 1 values; expected 2"),
        (PAIR + b"\x00", "holds 3 values; expected 2"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "at most 1073741824 values"),
        (b"\x00\x00\x08\x03" + bytes(4) + b"\xff" * 8, "at most 1073741824 values"),
        (gzip.compress(PAIR, mtime=0)[:-3], "is truncated"),
        (gzip.compress(PAIR, mtime=0) + b"\x00", "after its gzip data"),
        (b"\x1f\x8bnonsense!", "not whole gzip data"),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(data: bytes, expected: str) -> None:
    with pytest.raises(ImageError, match=expected) as caught:
        parse_idx(data, "some-file")
    assert str(caught.value).startswith("some-file: ")
    assert "\n" not in str(caught.value)


def test_decompression_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "LARGEST_CONTENT", 1000)
    assert len(expand(gzip.compress(bytes(1000), mtime=0), "bomb")) == 1000
    with pytest.raises(ImageError, match="bomb: expands to more than the 1000 bytes"):
        expand(gzip.compress(bytes(1001), mtime=0), "bomb")


def test_a_file_that_is_too_large_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "LARGEST_CONTENT", 10)
    (tmp_path / "large").write_bytes(PAIR)
    with pytest.raises(ImageError, match="large: is too large"):
        read_idx(tmp_path / "large")


def test_what_is_not_a_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(ImageError, match=f"{path}: is not a file"):
            read_idx(path)


def test_only_unsigned_bytes_are_written(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="int64; expected uint8"):
        write_idx(tmp_path / "x", np.zeros(3, dtype=np.int64))


def test_the_sample_is_20_real_digits_of_each_class() -> None:
    images, labels = sample_digits()
    assert images.shape == (200, 28, 28)
    assert labels.shape == (200,)
    assert images.dtype == labels.dtype == np.uint8
    assert np.bincount(labels).tolist() == [20] * 10
    assert len(np.unique(images, axis=0)) == 200
    assert (np.diff(labels.astype(int)) < 0).any()  # shuffled, so that a part has all classes
