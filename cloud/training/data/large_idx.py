"""IDX files of any size, also compressed: what is too large for memory is expanded on the disk."""

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
LARGEST_EXPANDED = 1 << 38  # bytes; bounds what a small hostile file can fill the disk with


def open_any_idx(path: Path) -> npt.NDArray[np.generic]:
    """The array in a file, read from the disk when it is used.

    ``ImageError`` names the file and what is wrong with it, a full disk too.
    """
    if not path.is_file():
        return open_idx(path)  # which says what it is instead
    with path.open("rb") as file:
        compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    if not compressed:
        return open_idx(path)
    # The mapping keeps the file's content after its name is gone.
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
