"""Open IDX files of any size; compressed files that exceed memory are expanded on disk."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.errors import ImageError
from shared.images.idx import GZIP_MAGIC, open_idx

BLOCK = 1 << 24
LARGEST_EXPANDED = 1 << 38  # bytes; limits the disk space that a small hostile file can take


def open_any_idx(path: Path) -> npt.NDArray[np.generic]:
    """Return the array in a file, which is read from disk when it is used.

    ``ImageError`` names the file and the problem, which may be a full disk.
    """
    if not path.is_file():
        return open_idx(path)  # whose error says what the file is
    with path.open("rb") as file:
        compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    if not compressed:
        return open_idx(path)
    # The memory mapping keeps the content alive after the file has been deleted.
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path.stem
        try:
            _expand(path, target)
        except (OSError, EOFError, zlib.error) as error:
            raise ImageError(f"{path}: cannot be expanded ({error})") from None
        try:
            return open_idx(target)
        except ImageError as error:
            raise ImageError(str(error).replace(str(target), str(path))) from None


def _expand(path: Path, target: Path) -> None:
    size = 0
    with gzip.open(path) as source, target.open("wb") as file:
        while block := source.read(BLOCK):
            size += len(block)
            if size > LARGEST_EXPANDED:
                raise ImageError(f"{path}: expands to more than {LARGEST_EXPANDED} bytes")
            file.write(block)
