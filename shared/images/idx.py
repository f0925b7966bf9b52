"""Arrays of bytes in the IDX format of the MNIST files, plain or compressed by gzip.

    00 00 | element type | rank | one big-endian uint32 a dimension | values, last dimension fastest

``parse_idx`` and ``format_idx`` know the element type 0x08, unsigned bytes, that data sets ship in;
``open_idx`` reads every type, and leaves uncompressed files of any size on the disk. What is
compressed is told by its first bytes, not by its name.
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

LARGEST_CONTENT = 1 << 30  # bytes; bounds what a small hostile file can expand to
LARGEST_RANK = 64  # of a numpy array
UNSIGNED_BYTES = 0x08
ELEMENT_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"
GZIP_WINDOW = 31  # zlib's way to say: gzip header, largest window


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array in a file; ``ImageError`` names the file and what is expected of it."""
    return parse_idx(read_content(path), str(path))


def parse_idx(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """The array, writable, in the content of a file that errors call ``name``."""
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
    # zeros are left out because numpy refuses (0, huge, huge) too
    if math.prod(size or 1 for size in shape) > LARGEST_CONTENT:
        raise ImageError(
            f"{name}: declares the shape {shape}; expected at most {LARGEST_CONTENT} values"
        )
    size, actual = math.prod(shape), len(content) - start
    if actual != size:
        raise ImageError(f"{name}: holds {actual} values; expected {size} for the shape {shape}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy()


def open_idx(path: Path) -> npt.NDArray[np.generic]:
    """The array of any element type in a file, on the disk if it is not compressed.

    ``ImageError`` names the file and what is expected of it.
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
    """Element type, shape and where the values start."""
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
    """The uncompressed IDX file of an array of unsigned bytes."""
    if array.dtype != np.uint8:
        raise ImageError(f"array: has elements of type {array.dtype}; expected uint8")
    if array.size > LARGEST_CONTENT or any(size >= 1 << 32 for size in array.shape):
        raise ImageError(
            f"array: has the shape {array.shape}; expected at most {LARGEST_CONTENT} values"
        )
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, UNSIGNED_BYTES, array.ndim)) + sizes + array.tobytes()


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Write an array; compressed if the name ends in ``.gz``, the same bytes at any time."""
    content = format_idx(array)
    if path.suffix == ".gz":
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
            file.write(content)
        content = buffer.getvalue()
    path.write_bytes(content)


def read_content(path: Path) -> bytes:
    """The bytes of a file as they are, at most ``LARGEST_CONTENT``."""
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
    """The data decompressed if they are gzip, else as they are; at most ``LARGEST_CONTENT``."""
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
