"""Convert pictures of any size to inputs of a network by the bundle's preprocessing.

Imports Pillow; the functions that do not need it are in ``ready``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from shared.errors import ImageError
from shared.images.decoding import Decoded, decode
from shared.images.ink import find_ink, set_ink
from shared.images.ready import Prepared, is_inverted, mean_notes, unchanged
from shared.images.transparency import flatten
from shared.images.values import Bytes
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing

INK_PIXELS = 480  # shorter side of the picture in which ink is searched
COARSE_PIXELS = 240  # shorter side of the picture in which ink is searched first
ENOUGH = 4  # ink found in the coarse picture is used if it is this many times the box's size
SPARE = 3  # factor on the input's size that smooth scaling needs
COLOURFUL = 40.0  # mean distance between the channels from which a picture counts as colourful


def prepare_file(source: bytes | Path, name: str, shape: Shape, steps: Preprocessing) -> Prepared:
    """Convert a picture file to an input of ``shape``; ``ImageError`` starts with ``name``."""
    return prepare(decode_for(source, name, shape, steps), name, shape, steps)


def decode_for(source: bytes | Path, name: str, shape: Shape, steps: Preprocessing) -> Decoded:
    """Decode a picture file at the resolution that an input of ``shape`` needs, for ``prepare``."""

    def needed(size: tuple[int, int]) -> tuple[int, int]:
        return _needed(size, shape, steps)

    return decode(source, name, needed)


def prepare(picture: Decoded, name: str, shape: Shape, steps: Preprocessing) -> Prepared:
    """Convert a decoded picture to an input of ``shape``.

    A picture that has the input's size and polarity already stays unchanged, bit for bit.
    """
    as_it_is = None if picture.alpha is not None else unchanged(picture.colour, shape, steps)
    if as_it_is is not None:
        return replace(as_it_is, notes=(*picture.notes, *as_it_is.notes))
    colour = flatten(picture, steps)
    notes = list(picture.notes)
    colour = _cropped(colour, picture.size, name, steps)
    if steps.colour:
        colour = np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour
    elif colour.shape[2] == 3:
        if _is_colourful(colour):
            notes.append("in colour; this model sees grey")
        colour = np.asarray(Image.fromarray(colour).convert("L"))[:, :, None]
    if steps.invert:
        colour = 255 - colour
    if steps.ink is not None and not steps.colour:
        return _with_ink(colour[:, :, 0], shape, steps, notes)
    return _finished(_resized(colour, shape, steps), colour, shape, steps, notes)


def _with_ink(grey: Bytes, shape: Shape, steps: Preprocessing, notes: list[str]) -> Prepared:
    """Convert grey (H, W) for a network trained on strokes of one value on a ground of another."""
    inverted = is_inverted(grey, steps)
    right_size = grey.shape == (shape.height, shape.width)
    if inverted and not steps.invert:
        notes.append("dark and light are the other way round than this model knows; inverted")
    if steps.ink_box is None or (right_size and inverted is not None):
        turned = 255 - grey if inverted and not steps.invert else grey
        return _finished(
            _resized(turned[:, :, None], shape, steps), turned[:, :, None], shape, steps, notes
        )
    light = steps.ink is not None and steps.ink > steps.ground
    dark = not light if steps.invert else None
    strokes = _strokes(grey, dark, steps.ink_box)
    if strokes is None:
        notes.append("no ink stands out; scaled as a whole")
        return _finished(
            _resized(grey[:, :, None], shape, steps), grey[:, :, None], shape, steps, notes
        )
    canvas = set_ink(strokes, steps.ink_box, shape)
    image = _between(canvas, steps)[:, :, None]
    return _finished(image, grey[:, :, None], shape, steps, notes)


def _strokes(grey: Bytes, ink_is_dark: bool | None, box: int) -> Bytes | None:
    """Find the strokes of a picture (H, W), in a smaller copy if that is detailed enough."""
    factor = min(grey.shape) // COARSE_PIXELS
    if factor > 1:
        strokes = find_ink(np.asarray(Image.fromarray(grey).reduce(factor)), ink_is_dark)
        if strokes is not None and max(strokes.shape) >= ENOUGH * box:
            return strokes
    return find_ink(grey, ink_is_dark)


def _between(canvas: Bytes, steps: Preprocessing) -> Bytes:
    """Map shares of ink, 0 to 255, to values from ground to ink."""
    ink, ground = steps.ink or 0, steps.ground
    if (ground, ink) == (0, 255):
        return canvas
    values: Bytes = np.rint(ground + canvas * ((ink - ground) / 255)).astype(np.uint8)
    return values


def _needed(size: tuple[int, int], shape: Shape, steps: Preprocessing) -> tuple[int, int]:
    """Return the resolution (width, height) that is needed of a picture of ``size``."""
    width, height = size
    if width <= 0 or height <= 0:
        return size
    part = (width, height) if steps.crop is None else steps.crop[2:]
    least = INK_PIXELS if steps.ink_box is not None else SPARE * max(shape.height, shape.width)
    share = min(1.0, least / min(part))
    return max(1, round(width * share)), max(1, round(height * share))


def _cropped(colour: Bytes, full: tuple[int, int], name: str, steps: Preprocessing) -> Bytes:
    """Return the part of a picture that ``steps.crop`` selects, in pixels of the size ``full``."""
    if steps.crop is None:
        return colour
    left, top, width, height = steps.crop
    if left + width > full[0] or top + height > full[1]:
        raise ImageError(
            f"{name} is {full[0]}x{full[1]}; the part {left},{top},{width},{height} is outside"
        )
    across, down = colour.shape[1] / full[0], colour.shape[0] / full[1]
    rows = slice(round(top * down), max(round(top * down) + 1, round((top + height) * down)))
    columns = slice(
        round(left * across), max(round(left * across) + 1, round((left + width) * across))
    )
    return colour[rows, columns]


def _resized(colour: Bytes, shape: Shape, steps: Preprocessing) -> Bytes:
    """Resize (H, W, C) to ``shape``: stretched, fitted or cropped to the middle."""
    height, width = colour.shape[:2]
    if (height, width) == (shape.height, shape.width):
        return colour
    picture = Image.fromarray(colour[:, :, 0] if colour.shape[2] == 1 else colour)
    size, box = (shape.width, shape.height), (0.0, 0.0, float(width), float(height))
    ratios = shape.width / width, shape.height / height
    if steps.resize == "fit":
        scale = min(ratios)
        size = max(1, round(width * scale)), max(1, round(height * scale))
    elif steps.resize == "crop":
        scale = max(ratios)
        left, top = (width - shape.width / scale) / 2, (height - shape.height / scale) / 2
        box = (left, top, width - left, height - top)
    small = np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box, reducing_gap=3.0))
    small = small.reshape(size[1], size[0], -1)
    if size == (shape.width, shape.height):
        return small
    canvas = np.full((shape.height, shape.width, small.shape[2]), steps.ground, np.uint8)
    top, left = (shape.height - size[1]) // 2, (shape.width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def _is_colourful(colour: Bytes) -> bool:
    few = colour[:: max(1, colour.shape[0] // 64), :: max(1, colour.shape[1] // 64)].astype(
        np.int16
    )
    return float((few.max(axis=2) - few.min(axis=2)).mean()) > COLOURFUL


def _finished(
    image: Bytes, before: Bytes, shape: Shape, steps: Preprocessing, notes: list[str]
) -> Prepared:
    scaled = before.shape[:2] != (shape.height, shape.width)
    return Prepared(image, scaled, (*notes, *mean_notes(image, steps)))
