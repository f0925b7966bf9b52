"""How a picture of any size becomes a network's input: part of a bundle, written by training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from shared.errors import BundleError
from shared.model.architecture import Shape

RESIZES = ("stretch", "fit", "crop")
DIGIT_SHAPE = Shape(28, 28, 1)


@dataclass(frozen=True)
class Preprocessing:
    """The steps between a decoded picture and the network, and what training pictures were like.

    colour  the network takes colour pictures; if not, colour becomes grey
    ground  0..255, what surrounds the subject: under transparency and beside fitted pictures
    ink     0..255, the value of strokes, or None for photographs. With an ink, a picture whose
            border is nearer to the ink than to the ground is inverted
    ink_box side, in pixels, of the square that the ink is cut out and scaled to, its centre of
            mass in the middle of the input; None: the whole picture is resized
    resize  stretch: both sides to the input's; fit: the whole picture inside, ground beside it;
            crop: the middle of the picture that has the input's aspect
    mean    smallest and largest mean value of a training image
    invert  every picture is inverted first, and the border decides nothing
    crop    (left, top, width, height) in pixels of the upright picture: the part that is looked at
    """

    colour: bool
    ground: int = 0
    ink: int | None = None
    ink_box: int | None = None
    resize: str = "stretch"
    mean: tuple[float, float] = (0.0, 255.0)
    invert: bool = False
    crop: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        """Check every field; ``BundleError`` names the one that is wrong."""
        for name, value in (("ground", self.ground), ("ink", self.ink)):
            if value is not None and not 0 <= value <= 255:
                raise BundleError(f"preprocessing: {name} is {value}; expected 0 to 255")
        if self.ink is not None and abs(self.ink - self.ground) < 64:
            raise BundleError("preprocessing: ink and ground are closer than 64")
        if self.ink_box is not None and (self.ink is None or not 4 <= self.ink_box <= 4096):
            raise BundleError("preprocessing: ink_box needs an ink and a size of 4 to 4096")
        if self.resize not in RESIZES:
            raise BundleError(
                f"preprocessing: resize is {self.resize!r}; known: {', '.join(RESIZES)}"
            )
        if not 0 <= self.mean[0] <= self.mean[1] <= 255:
            raise BundleError(f"preprocessing: mean is {self.mean}; expected a range in 0 to 255")
        if self.crop is not None and (min(self.crop) < 0 or 0 in self.crop[2:]):
            raise BundleError(f"preprocessing: crop is {self.crop}; expected left, top and a size")

    def to_json(self) -> dict[str, Any]:
        """The description as a JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Read a JSON value; fields of later versions are an error, missing ones their default."""
        fields = dict(value)
        for name in ("mean", "crop"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        return cls(**fields)


@dataclass(frozen=True)
class Changes:
    """What a user wants otherwise than the bundle says; fields as in ``Preprocessing``."""

    invert: bool = False
    crop: tuple[int, int, int, int] | None = None
    resize: str | None = None

    def apply(self, steps: Preprocessing) -> Preprocessing:
        """The steps with the changes; a resize that is asked for is that of the whole picture."""
        if self.resize is not None:
            steps = replace(steps, resize=self.resize, ink_box=None)
        return replace(steps, invert=steps.invert != self.invert, crop=self.crop or steps.crop)


# Digits as MNIST's makers prepared them: the ink in a box of 20 by 20, centred by mass
# (LeCun et al. 1998, section III.A).
DIGITS = Preprocessing(colour=False, ink=255, ink_box=20, mean=(6.0, 102.0))
# Clothes as Fashion-MNIST's makers prepared them: the longer side fitted, light on black
# (Xiao et al. 2017, section 2).
GARMENTS = Preprocessing(colour=False, ink=255, resize="fit", mean=(4.0, 192.0))
PHOTOGRAPHS = Preprocessing(colour=True, mean=(7.0, 253.0))


def default_preprocessing(shape: Shape, data: str) -> Preprocessing:
    """What a bundle that says nothing was made with, by its input and its training data's name."""
    if shape == DIGIT_SHAPE and data == "mnist":
        return DIGITS
    if shape == DIGIT_SHAPE and data == "fashion-mnist":
        return GARMENTS
    return PHOTOGRAPHS if shape.channels == 3 else Preprocessing(colour=False)
