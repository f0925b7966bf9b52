"""Read the labels of images from IDX, .npy, CSV or text, by position or by file name."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.errors import ImageError
from shared.images.arrays import read_npy
from shared.images.folders import IDX_ENDINGS, class_number
from shared.images.idx import open_idx

LARGEST_TABLE_BYTES = 256 << 20
FILE_HEADINGS = ("file", "filename", "file_name", "path", "image", "image_path", "name", "id")
LABEL_HEADINGS = ("label", "class", "class_name", "category", "target", "y")


@dataclass(frozen=True)
class Labels:
    """Labels as they were written, by position or by file name."""

    in_order: Sequence[str] = ()
    by_name: Mapping[str, str] = field(default_factory=dict)

    def of(self, position: int, path: Path | None, classes: Sequence[str]) -> int | None:
        """Return the class index of an image; None if it has no label or an unknown one."""
        text = self.in_order[position] if position < len(self.in_order) else None
        if path is not None and self.by_name:
            # Use the longest trailing part of the path that is in the table.
            parts = path.parts
            names = ("/".join(parts[at:]) for at in range(len(parts)))
            text = next((self.by_name[name] for name in names if name in self.by_name), None)
            text = self.by_name.get(path.stem) if text is None else text
        return None if text is None else class_number(text, classes)


def read_labels(path: Path, name: str) -> Labels:
    """Read the labels in a file; ``ImageError`` starts with ``name``.

    A table has rows of file and label, or of a label only, in the order of the images.
    """
    lowered = path.name.lower()
    if path.suffix.lower() == ".npy":
        return Labels(in_order=_numbers(read_npy(path, name), name))
    if lowered.endswith(IDX_ENDINGS):
        return Labels(in_order=_numbers(open_idx(path), name))
    rows = read_table(path, name)
    if all(len(row) == 1 for row in rows):
        return Labels(in_order=[row[0] for row in rows])
    return Labels(by_name={_tidy(row[0]): row[1] for row in rows})


def read_table(path: Path, name: str) -> list[tuple[str, ...]]:
    """Read rows of (file, label) or (label,), without the heading; ``ImageError``.

    Columns are recognised by their headings; without headings they are file, then label. They are
    separated by commas, semicolons, tabs or, in files without these, by the last space.
    """
    try:
        if not path.is_file():
            raise ImageError(f"{name} cannot be read (no such file)")
        if path.stat().st_size > LARGEST_TABLE_BYTES:
            raise ImageError(f"{name} is larger than {LARGEST_TABLE_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ImageError(f"{name} is neither IDX, .npy nor text in UTF-8") from None
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror})") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ImageError(f"{name} is empty")
    separator = next((mark for mark in ("\t", ";", ",") if mark in lines[0]), None)
    if separator is None:
        rows = [tuple(line.rsplit(None, 1)) for line in lines]
    else:
        try:
            rows = [tuple(row) for row in csv.reader(lines, delimiter=separator)]
        except csv.Error as error:
            raise ImageError(f"{name} is no readable table ({error})") from None
    return _columns(rows, name)


def _columns(rows: list[tuple[str, ...]], name: str) -> list[tuple[str, ...]]:
    """Return the columns of file and label, or the only column."""
    heading = [cell.strip().casefold() for cell in rows[0]]
    labels = [number for number, cell in enumerate(heading) if cell in LABEL_HEADINGS]
    files = [number for number, cell in enumerate(heading) if cell in FILE_HEADINGS]
    if labels:
        rows = rows[1:]
        wanted = (*files[:1], labels[0])
    else:
        wanted = (0, 1) if len(heading) > 1 else (0,)
    short = [number for number, row in enumerate(rows, 1) if len(row) <= max(wanted)]
    if short:
        raise ImageError(
            f"{name}: row {short[0]} has {len(rows[short[0] - 1])} columns; file and label are "
            "needed"
        )
    return [tuple(row[number].strip() for number in wanted) for row in rows]


def _tidy(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _numbers(array: np.typing.NDArray[np.generic], name: str) -> list[str]:
    whole = array.dtype.kind in "ui" or (
        array.dtype.kind == "f" and bool(np.all(np.mod(array.astype(np.float64), 1) == 0))
    )
    if not whole or array.size != max(array.shape, default=0):
        raise ImageError(f"{name} holds {array.dtype}{array.shape}; whole numbers are needed")
    return [str(int(value)) for value in array.reshape(-1).tolist()]
