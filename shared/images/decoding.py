"""Decode one picture file to bytes of grey or colour, with its opacity if it has any.

The result is the first frame, turned upright, at a reduced size if that suffices. This module is
imported only when there is a picture to decode, since Pillow costs time and memory.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from shared.errors import ImageError
from shared.images.samples import declared_range, to_bytes_picture
from shared.images.values import Bytes

LARGEST_IMAGE_PIXELS = 64_000_000  # refuse decompression bombs

# The allowed formats by Pillow's names, first those that need no plugins to be loaded. Excluded are
# formats that run a program (EPS), that Pillow cannot decode alone (WMF, HDF5, GRIB), and that
# match almost any bytes (SPIDER, MCIDAS).
COMMON_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM")
OTHER_FORMATS = (
    *("WEBP", "TIFF", "JPEG2000", "AVIF", "ICO", "ICNS", "PCX", "DCX", "SGI", "SUN", "QOI", "PSD"),
    *("DDS", "DIB", "IM", "XBM", "XPM", "MSP", "FLI", "TGA", "CUR"),
)

# Errors that Pillow raises for damaged files, depending on their format.
UNREADABLE_IMAGE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A decoded picture.

    colour  grey (H, W, 1) or colour (H, W, 3)
    alpha   (H, W), 0 transparent to 255 opaque, or None
    size    (width, height) of the upright picture in the file, which may be larger
    notes   remarks for the user about how it was read
    """

    colour: Bytes
    alpha: Bytes | None
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


# A function that returns the needed (width, height) of an upright picture of a given size.
Needed = Callable[[tuple[int, int]], tuple[int, int]]


def decode(source: bytes | Path, name: str, needed: Needed) -> Decoded:
    """Decode the first picture in a file or its bytes; ``ImageError`` starts with ``name``."""
    try:
        with warnings.catch_warnings():
            # Warnings about damaged metadata and about sizes, which are checked here.
            warnings.simplefilter("ignore")
            return _decode(source, name, needed)
    except UNREADABLE_IMAGE as error:
        raise ImageError(
            f"{name} is not an image that can be read ({_reason(error)}); give PNG, JPEG, WebP, "
            "TIFF, GIF, BMP or the like, IDX or .npy"
        ) from None


def _decode(source: bytes | Path, name: str, needed: Needed) -> Decoded:
    def opened() -> ImageFile.ImageFile:
        return _open(source)

    with opened() as image:
        if image.width * image.height > LARGEST_IMAGE_PIXELS:
            raise ImageError(f"{name} has more than {LARGEST_IMAGE_PIXELS} pixels")
        notes = _frame_notes(image)
        orientation = _orientation(image)
        lies = orientation >= 5
        size = image.size[::-1] if lies else image.size
        wanted = needed(size)[::-1] if lies else needed(size)
        declared = declared_range(image, source)
        # Decodes a JPEG at 1/2, 1/4 or 1/8 of its size, which saves most of the time and memory.
        image.draft(None, wanted)
        image.load()
        picture, said = to_bytes_picture(image, declared, opened, name)
    picture = _reduced(picture, wanted)
    if orientation in TURNS:
        picture = picture.transpose(TURNS[orientation])
    pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    clear = picture.mode in ("LA", "RGBA")
    return Decoded(
        pixels[:, :, :-1] if clear else pixels,
        pixels[:, :, -1] if clear else None,
        size,
        (*notes, *said),
    )


def _open(source: bytes | Path) -> ImageFile.ImageFile:
    def content() -> io.BytesIO | Path:
        return io.BytesIO(source) if isinstance(source, bytes) else source

    try:
        return Image.open(content(), "r", COMMON_FORMATS)
    except UnidentifiedImageError:
        Image.init()
        built = [name for name in OTHER_FORMATS if name in Image.OPEN]  # some are optional
        return Image.open(content(), "r", built)


def _reduced(picture: Image.Image, wanted: tuple[int, int]) -> Image.Image:
    """Reduce the picture by an integer factor to at least the size ``wanted``."""
    factor = min(picture.width // max(1, wanted[0]), picture.height // max(1, wanted[1]))
    return picture if factor <= 1 else picture.reduce(factor)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 if it is missing or unreadable."""
    if image.format == "TIFF":  # Pillow rotates these itself
        return 1
    try:
        value: Any = image.getexif().get(ExifTags.Base.Orientation, 1)
    except UNREADABLE_IMAGE:  # the pixels may still be readable
        return 1
    return value if isinstance(value, int) else 1


def _frame_notes(image: Image.Image) -> tuple[str, ...]:
    # Further pictures in an MPO file are a phone's depth map or preview.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return ("several frames or pages; the first is used",)
    return ()


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UnidentifiedImageError) or not text:
        return "no format that is known"
    return text[:120]
