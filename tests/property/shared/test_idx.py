"""Laws of the IDX format: write then read is identity, and broken files give only ImageError."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from shared.errors import ImageError
from shared.images.idx import format_idx, parse_idx, read_idx, write_idx

Bytes = npt.NDArray[np.uint8]

BYTE_ARRAYS = arrays(np.uint8, array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=5))


@given(array=BYTE_ARRAYS, suffix=st.sampled_from(["", ".gz"]))
def test_write_then_read_is_identity(array: Bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"array{suffix}"
        write_idx(path, array)
        back = read_idx(path)
    assert back.shape == array.shape
    assert np.array_equal(back, array)


@given(
    array=BYTE_ARRAYS,
    compressed=st.booleans(),
    edits=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 300),
    tail=st.binary(max_size=4),
)
def test_a_mutated_file_parses_or_is_an_image_error(
    array: Bytes, compressed: bool, edits: list[tuple[int, int]], length: int, tail: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("array.gz" if compressed else "array")
        write_idx(path, array)
        data = bytearray(path.read_bytes())
    for place, value in edits:
        data[place % len(data)] = value
    with contextlib.suppress(ImageError):
        parse_idx(bytes(data[:length]) + tail, "mutated")


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_an_image_error(data: bytes) -> None:
    for prefix in (b"", b"\x00\x00\x08", b"\x1f\x8b\x08"):
        with contextlib.suppress(ImageError):
            array = parse_idx(prefix + data, "noise")
            assert parse_idx(format_idx(array), "again").shape == array.shape
