"""Arrays of bytes in the IDX format of the MNIST files, plain or compressed by gzip.

    00 00 | element type | rank | big-endian uint32 for each dimension | values in row-major order

``parse_idx`` and ``format_idx`` handle the element type 0x08, unsigned bytes, which data sets use.
``open_idx`` reads all types and leaves uncompressed files of any size on disk. Compressed files are
recognised by their first bytes, not by their names.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.errors import ImageError

LARGEST_CONTENT = 1 << 30  # bytes; limits the expansion of a small hostile file
LARGEST_RANK = 64  # numpy's limit
UNSIGNED_BYTES = 0x08
ELEMENT_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW = 31  # zlib's code for a gzip header and the largest window


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read the array in a file; ``ImageError`` names the file and what is wrong."""
    return parse_idx(read_content(path), str(path))


def parse_idx(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Parse a file's content to a writable array; ``ImageError`` starts with ``name``."""
    content = expand(data, name)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ImageError(f"{name}: is not IDX; expected a file that starts with 00 00 08")
    if content[2] != UNSIGNED_BYTES:
        raise ImageError(
            f"{name}: has IDX element type 0x{content[2]:02x}; expected 0x08, unsigned bytes"
        )
    rank = content[3]
    if rank > LARGEST_RANK:
        raise ImageError(f"{name}: has {rank} dimensions; expected at most {LARGEST_RANK}")
    start = 4 + 4 * rank
    if len(content) < start:
        raise ImageError(
            f"{name}: ends after {len(content)} bytes; expected a header of {start} bytes"
        )
    shape = struct.unpack(f">{rank}I", content[4:start])
    # Zeros count as 1, because numpy refuses shapes such as (0, huge, huge) too.
    if math.prod(size or 1 for size in shape) > LARGEST_CONTENT:
        raise ImageError(
            f"{name}: declares the shape {shape}; expected at most {LARGEST_CONTENT} values"
        )
    size, actual = math.prod(shape), len(content) - start
    if actual != size:
        raise ImageError(f"{name}: holds {actual} values; expected {size} for the shape {shape}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()


def open_idx(path: Path) -> npt.NDArray[np.generic]:
    """Open the array of any element type in a file; it stays on disk if it is not compressed.

    ``ImageError`` names the file and what is wrong.
    """
    try:
        if not path.is_file():  # a pipe or a device may never end
            raise ImageError(f"{path}: is not a file; expected an IDX file")
        with path.open("rb") as file:
            head = file.read(4 + 4 * LARGEST_RANK)
        compressed = head.startswith(GZIP_MAGIC)
        content = expand(read_content(path), str(path)) if compressed else b""
        size = len(content) if compressed else path.stat().st_size
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    kind, shape, start = _parse_head(content[: len(head)] if compressed else head, str(path))
    expected = math.prod(shape) * kind.itemsize
    if size - start != expected:
        raise ImageError(
            f"{path}: holds {size - start} bytes; expected {expected} for the shape {shape}"
        )
    if compressed or not expected:
        return np.frombuffer(content, dtype=kind, offset=start, count=math.prod(shape)).reshape(
            shape
        )
    return np.memmap(path, dtype=kind, mode="r", offset=start, shape=shape)


def _parse_head(head: bytes, name: str) -> tuple[np.dtype[np.generic], tuple[int, ...], int]:
    """Parse element type, shape and the offset of the values."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in ELEMENT_TYPES:
        raise ImageError(
            f"{name}: is not IDX; expected a file that starts with 00 00 08 or the like"
        )
    rank = head[3]
    start = 4 + 4 * rank
    if rank > LARGEST_RANK or len(head) < start:
        raise ImageError(f"{name}: ends in its header, or has more than {LARGEST_RANK} dimensions")
    return np.dtype(ELEMENT_TYPES[head[2]]), struct.unpack(f">{rank}I", head[4:start]), start


def format_idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return the content of an uncompressed IDX file with an array of unsigned bytes."""
    if array.dtype != np.uint8:
        raise ImageError(f"array: has elements of type {array.dtype}; expected uint8")
    if array.size > LARGEST_CONTENT or any(size >= 1 << 32 for size in array.shape):
        raise ImageError(
            f"array: has the shape {array.shape}; expected at most {LARGEST_CONTENT} values"
        )
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, UNSIGNED_BYTES, array.ndim)) + sizes + array.tobytes()


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Write an array; compressed, reproducibly, if the name ends in ``.gz``."""
    content = format_idx(array)
    if path.suffix == ".gz":
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
            file.write(content)
        content = buffer.getvalue()
    path.write_bytes(content)


def read_content(path: Path) -> bytes:
    """Return the bytes of a file, at most ``LARGEST_CONTENT``; ``ImageError``."""
    try:
        if not path.is_file():  # a pipe or a device may never end
            raise ImageError(f"{path}: is not a file; expected an IDX file")
        with path.open("rb") as file:
            data = file.read(LARGEST_CONTENT + 1)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_CONTENT:
        raise ImageError(f"{path}: is too large; expected at most {LARGEST_CONTENT} bytes")
    return data


def expand(data: bytes, name: str) -> bytes:
    """Return the data, decompressed if they are gzip; at most ``LARGEST_CONTENT``;
    ``ImageError``.
    """
    if not data.startswith(GZIP_MAGIC):
        return data
    inflater = zlib.decompressobj(GZIP_WINDOW)
    try:
        content = inflater.decompress(data, LARGEST_CONTENT + 1)
    except zlib.error as error:
        raise ImageError(f"{name}: is not whole gzip data; expected IDX in gzip") from error
    if len(content) > LARGEST_CONTENT:
        raise ImageError(f"{name}: expands to more than the {LARGEST_CONTENT} bytes allowed")
    if not inflater.eof:
        raise ImageError(f"{name}: is truncated; expected whole gzip data")
    if inflater.unused_data:
        raise ImageError(f"{name}: has bytes after its gzip data; expected none")
    return content
