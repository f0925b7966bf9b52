"""Images that are what the network knows already, without Pillow: they pass unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from shared.images.values import Bytes
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing

SAME, OTHER = 0.4, 0.6  # shares of the way from ground to ink that decide for a border
LEAST_CONTRAST = 0.5  # of that between ground and ink, below which a border decides nothing
FAR = 1.0  # of 255: how far outside the training images' means a mean is worth a word
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Prepared:
    """An input of the network (H, W, C), whether it was scaled, and what to say of it."""

    image: Bytes
    scaled: bool = False
    notes: tuple[str, ...] = ()


def unchanged(image: Bytes, shape: Shape, steps: Preprocessing) -> Prepared | None:
    """The image (H, W, C) itself if it has the input's size, colours and polarity, else None."""
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
    """Whether the border of (H, W) has the ink's value; None if that cannot be told.

    ``steps`` has an ink. A picture of little contrast and a border of middle grey tell nothing;
    a picture of one value is as it should be.
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
    """A line if the image is darker or lighter than any training image, else nothing."""
    mean, (low, high) = float(image.mean()), steps.mean
    if low - FAR <= mean <= high + FAR:
        return ()
    return (
        f"far darker or lighter than any training image (mean outside {low:.0f} to {high:.0f})",
    )


def border(grey: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The outermost pixels of (H, W)."""
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
