"""Convert pixels of every mode that Pillow opens to bytes: grey or colour, perhaps with opacity.

The value of white is the one that the file declares; without a declaration, ``white_of`` determines
it from the values. Pillow reduces 16-bit colour to its upper byte. If a picture uses only the lower
bits, so that this would lose it, the lower bytes are decoded too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from shared.images.values import Array, note_of, to_bytes, white_of

Opener = Callable[[], ImageFile.ImageFile]
Samples = npt.NDArray[np.uint16]
Range = tuple[float, float]  # the values of black and white

PNG_SIGNATURE = 8  # bytes
PNG_HEAD = 1 << 16  # bytes in which the chunks before the pixels are searched
# Tags of TIFF 6.0: section 8 and the supplement on sample formats.
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
SMALLEST_VALUE, LARGEST_VALUE = (340, 280), (341, 281)
WHITE_IS_ZERO, UNSIGNED = 0, 1

PPM_COLOUR = "RGB;16 of PPM"
# Decoders with the opposite byte order, which return the other byte of each sample.
OTHER_BYTE = {
    f"{bands};16{order}": f"{bands};16{other}"
    for bands in ("RGB", "RGBA", "RGBX")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B"))
}


def declared_range(image: ImageFile.ImageFile, source: bytes | Path) -> Range | None:
    """Return black and white as the file declares them; None if it does not."""
    if image.format == "PNG":
        bits = _significant_bits(source)
        return None if bits is None else (0.0, 2.0**bits - 1)
    if image.format == "TIFF":
        return _tiff_range(image)
    if image.format == "PPM" and image.tile and isinstance(image.tile[0].args, tuple):
        # Pillow has scaled the file's largest value to that of the type.
        return (0.0, 65535.0) if image.mode == "I" else None
    return None


def to_bytes_picture(
    image: ImageFile.ImageFile, declared: Range | None, opened: Opener, name: str
) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert an opened picture to L, LA, RGB or RGBA; also returns notes about its range.

    ``opened`` opens the same file again. ``ImageError`` starts with ``name``.
    """
    if image.mode.startswith(("I", "F")):
        return _numbers(image, declared, name)
    with opened() as unread:
        raw = _rawmode(unread)
    if ";16" in raw:
        shallow = _shallow_depth(image, declared, opened, raw, name)
        if shallow is not None:
            return shallow
    picture = _plain_mode(image)
    if image.mode == "L" or (declared is not None and declared[1] < 255):
        return _stretched(picture, declared, name)
    return picture, ()


def _plain_mode(image: Image.Image) -> Image.Image:
    grey = image.mode in ("1", "L", "LA", "La")
    clear = image.has_transparency_data
    mode = ("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB")
    return image if image.mode == mode else image.convert(mode)


def _stretched(
    picture: Image.Image, declared: Range | None, name: str
) -> tuple[Image.Image, tuple[str, ...]]:
    """Scale 8-bit pixels of which the file uses only the lower bits, or only 0 and 1."""
    pixels = np.asarray(picture)
    colour = pixels[..., :-1] if picture.mode in ("LA", "RGBA") else pixels
    black, white = _range_of(colour, declared, name)
    if (black, white) == (0.0, 255.0):
        return picture, ()
    scaled = pixels.copy()
    target = scaled[..., : colour.shape[-1]] if colour.ndim == 3 else scaled
    target[...] = to_bytes(colour, white, black)
    return Image.fromarray(scaled), tuple(note_of(colour, white))


def _numbers(
    image: ImageFile.ImageFile, declared: Range | None, name: str
) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert grey of 16 or 32 bits or in floating point."""
    values: Array = np.asarray(image)
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED and tags:
        values = values.view(np.uint32)
    black, white = _range_of(values, declared, name)
    grey = to_bytes(values, white, black)
    if image.mode.startswith("I;16") and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    notes = tuple(note_of(values, white))
    key = image.info.get("transparency")
    if isinstance(key, int):
        alpha = np.where(values == key, 0, 255).astype(np.uint8)
        return Image.fromarray(np.stack([grey, alpha], -1)), notes
    return Image.fromarray(grey), notes


def _range_of(values: Array, declared: Range | None, name: str) -> Range:
    """Return the declared range if the values lie in it; else the range that fits them."""
    if declared is not None and values.size:
        low, high = declared
        if low <= float(values.min()) and float(values.max()) <= high:
            return declared
        if values.dtype.kind in "ui" and values.dtype.itemsize <= 2 and low == 0:
            # Values above the declared depth were scaled up to the file's depth, as PNG requires.
            return 0.0, float(np.iinfo(values.dtype).max)
    return 0.0, white_of(values, name)


def _significant_bits(source: bytes | Path) -> int | None:
    """Return the largest colour depth that a PNG's sBIT chunk declares; None without one."""
    if isinstance(source, bytes):
        head = source[:PNG_HEAD]
    else:
        with source.open("rb") as file:
            head = file.read(PNG_HEAD)
    start, colour_type = PNG_SIGNATURE, 0
    while start + 8 <= len(head):
        size, kind = struct.unpack_from(">I4s", head, start)
        content = head[start + 8 : start + 8 + size]
        if kind == b"IHDR" and len(content) == 13:
            colour_type = content[9]
        elif kind == b"sBIT" and content:
            if colour_type == 3:  # it describes the palette, whose colours are whole bytes
                return None
            colours = 3 if colour_type & 2 else 1
            return int(max(1, *content[:colours]))
        elif kind == b"IDAT":
            break
        start += size + 12
    return None


def _tiff_range(image: ImageFile.ImageFile) -> Range | None:
    tags: Any = getattr(image, "tag_v2", {})

    def first(*names: int) -> float | None:
        for name in names:
            value = tags.get(name)
            value = value[0] if isinstance(value, tuple) and value else value
            if isinstance(value, int | float):
                return float(value)
        return None

    high, low = first(*LARGEST_VALUE), first(*SMALLEST_VALUE)
    if high is not None and high > (low or 0.0):
        return low or 0.0, high
    bits = first(BITS_PER_SAMPLE)
    if bits is not None and bits not in (1, 8, 16, 32, 64) and image.mode.startswith("I"):
        return 0.0, 2.0**bits - 1
    return None


def _rawmode(image: ImageFile.ImageFile) -> str:
    """Return the raw mode with which the decoder will read the samples of an unloaded file."""
    args = image.tile[0].args if image.tile else ""
    if args == ("RGB", 65535):
        return PPM_COLOUR
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _shallow_depth(
    image: ImageFile.ImageFile, declared: Range | None, opened: Opener, raw: str, name: str
) -> tuple[Image.Image, tuple[str, ...]] | None:
    """Convert 16-bit colour whose upper four bits are unused; None if used or undecidable."""
    upper = np.asarray(image)
    colour = upper[..., :1] if raw.startswith("LA") else upper[..., :3]
    if upper.ndim != 3 or colour.max(initial=0) > 16:
        return None
    values = _whole_samples(upper, opened, raw)
    if values is None:
        return None
    colours, alpha = (values[..., :-1], values[..., -1:]) if "A" in raw else (values[..., :3], None)
    black, white = _range_of(colours, declared, name)
    bands = [to_bytes(colours, white, black)]
    if alpha is not None:
        bands.append(to_bytes(alpha, white_of(alpha, name)))
    pixels = np.concatenate(bands, axis=-1)
    return Image.fromarray(pixels), tuple(note_of(colours, white))


def _whole_samples(upper: npt.NDArray[np.uint8], opened: Opener, raw: str) -> Samples | None:
    """Return the 16-bit samples (H, W, C) for given upper bytes; grey and alpha as (H, W, 2)."""
    if raw == "LA;16B":
        # Read as RGBA, as a pixel has four bytes: upper and lower of grey, upper and lower of
        # alpha.
        both = np.asarray(_decoded_as(opened(), "RGBA")).astype(np.uint16)
        whole: Samples = np.bitwise_or(both[..., ::2] << 8, both[..., 1::2], dtype=np.uint16)
        return whole
    if raw in OTHER_BYTE:
        lower = np.asarray(_decoded_as(opened(), OTHER_BYTE[raw]))
        joined: Samples = np.bitwise_or(upper.astype(np.uint16) << 8, lower, dtype=np.uint16)
        return joined
    if raw == PPM_COLOUR:  # the decoder scales by the largest value passed to it
        lower = np.asarray(_decoded_as(opened(), "RGB", 4095)).astype(np.uint16)
        if lower.max(initial=0) > 16:
            return np.rint(lower * (4095 / 255)).astype(np.uint16)
        return np.asarray(_decoded_as(opened(), "RGB", 255)).astype(np.uint16)
    return None


def _decoded_as(image: ImageFile.ImageFile, raw: str, largest: int | None = None) -> Image.Image:
    """Decode a freshly opened picture as if its samples had the layout ``raw``."""
    tiles = []
    for tile in image.tile:
        args: Any = raw
        if isinstance(tile.args, tuple):
            rest = tile.args[1:] if largest is None else (largest, *tile.args[2:])
            args = (raw, *rest)
        tiles.append(tile._replace(args=args))
    image.tile = tiles
    image.load()
    return image
