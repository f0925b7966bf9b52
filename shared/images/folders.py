"""Find images and arrays in a folder with subfolders, links, and files of any names.

Only files whose names do not tell their format are opened, to read their first bytes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PICTURE_SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp"),
        *(".dib", ".tif", ".tiff", ".avif", ".avifs", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ico", ".cur", ".icns", ".tga"),
        *(".icb", ".vda", ".vst", ".pcx", ".dcx", ".sgi", ".bw", ".rgb", ".rgba", ".ras"),
        *(".qoi", ".psd", ".dds", ".im", ".xbm", ".xpm", ".msp", ".fli", ".flc"),
    )
)
ARRAY_SUFFIXES = frozenset((".npy", ".npz"))
IDX_ENDINGS = (".idx", "-ubyte", ".idx.gz", "-ubyte.gz")
LABELS_MARK = "idx1-ubyte"  # part of the names of label files, which lie beside image files
HEAD = 16  # bytes read to recognise a format
# First bytes of the formats that are recognised without a known suffix.
SIGNATURES = (
    *(
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF8",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"MM\0+",
    ),
    *(b"\x93NUMPY", b"\0\0\x08\x03", b"\0\0\x08\x04", b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"),
    *(b"qoif", b"8BPS", b"P4\n", b"P5\n", b"P6\n", b"P5 ", b"P6 "),
)


@dataclass(frozen=True)
class Entry:
    """A file to read; if it only has the name of an image, ``problem`` says what it is."""

    path: Path
    problem: str = ""


def walk(folder: Path) -> Iterator[Entry]:
    """Yield all images and arrays below ``folder`` in natural order (1, 2, 10).

    Links are followed, but every folder is entered only once.
    """
    yield from _walk(folder, set())


def is_array(path: Path) -> bool:
    """Whether the name is that of an IDX, .npy or .npz file."""
    return path.suffix.lower() in ARRAY_SUFFIXES or path.name.lower().endswith(IDX_ENDINGS)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that compares numbers in names by value and ignores case."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def class_number(text: str, classes: Sequence[str]) -> int | None:
    """Return the index of a class given by name (ignoring case) or number; None if unknown."""
    lowered = text.strip().casefold()
    for number, name in enumerate(classes):
        if name.casefold() == lowered:
            return number
    return int(lowered) if lowered.isdecimal() and int(lowered) < len(classes) else None


def has_signature(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is an image or an array."""
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return riff or head[4:12] in (b"ftypavif", b"ftypavis") or head.startswith(SIGNATURES)


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Entry]:
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir(), key=lambda path: (natural(path), path.name))
    except OSError as error:
        yield Entry(folder, f"cannot be read ({error.strerror})")
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    folders = []
    for path in entries:
        try:
            mode = path.stat().st_mode
        except OSError as error:  # a broken or circular link
            if is_named_picture(path):
                yield Entry(path, f"cannot be read ({error.strerror})")
            continue
        if stat.S_ISDIR(mode):
            if is_named_picture(path):
                yield Entry(path, "is a folder with an image's name")
            else:
                folders.append(path)
        elif is_named_picture(path):
            yield Entry(path, "" if stat.S_ISREG(mode) else "is not a file")
        elif stat.S_ISREG(mode) and not path.suffix and _has_picture_signature(path):
            yield Entry(path)
    for path in folders:
        yield from _walk(path, seen)


def is_named_picture(path: Path) -> bool:
    """Whether the name is that of a picture or an array of pictures."""
    if LABELS_MARK in path.name:
        return False
    return path.suffix.lower() in PICTURE_SUFFIXES or is_array(path)


def _has_picture_signature(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return has_signature(os.read(file.fileno(), HEAD))
    except OSError:
        return False
