"""Recognise images that need no conversion; works without Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from shared.images.values import Bytes
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing

SAME, OTHER = 0.4, 0.6  # a border below (above) this share from ground to ink is ground (ink)
LEAST_CONTRAST = 0.5  # share of the contrast of ground and ink below which nothing is decided
FAR = 1.0  # of 255; an image whose mean is this far outside the training images' gets a note
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Prepared:
    """An input of the network (H, W, C), whether it was scaled, and notes for the user."""

    image: Bytes
    scaled: bool = False
    notes: tuple[str, ...] = ()


def unchanged(image: Bytes, shape: Shape, steps: Preprocessing) -> Prepared | None:
    """Return the image (H, W, C) if it has the input's size, colours and polarity; else None."""
    if image.shape != (shape.height, shape.width, shape.channels):
        return None
    if steps.invert or steps.crop is not None:
        return None
    if steps.ink is not None and not steps.colour:
        inverted = is_inverted(image[:, :, 0], steps)
        if inverted or (inverted is None and steps.ink_box is not None):
            return None
    return Prepared(image, notes=mean_notes(image, steps))


def is_inverted(grey: Bytes, steps: Preprocessing) -> bool | None:
    """Whether the border of (H, W) has the ink's value; None if it cannot be decided.

    ``steps`` must have an ink. Low contrast or a border of middle grey are undecided; a picture of
    a single value counts as not inverted.
    """
    if steps.ink is None:
        return None
    contrast = steps.ink - steps.ground
    spread = int(grey.max()) - int(grey.min())
    if not spread:
        return False
    if spread < LEAST_CONTRAST * abs(contrast):
        return None
    share = (float(np.median(border(grey))) - steps.ground) / contrast
    if share >= OTHER:
        return True
    return False if share <= SAME else None


def mean_notes(image: Bytes, steps: Preprocessing) -> tuple[str, ...]:
    """Return a note if the image is darker or lighter than any training image; else nothing."""
    mean, (low, high) = float(image.mean()), steps.mean
    if low - FAR <= mean <= high + FAR:
        return ()
    return (
        f"far darker or lighter than any training image (mean outside {low:.0f} to {high:.0f})",
    )


def border(grey: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the outermost pixels of (H, W)."""
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
