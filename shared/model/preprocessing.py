"""The preprocessing of pictures to network inputs, which training stores in a bundle."""

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
    """The steps from a decoded picture to the network's input, and properties of training pictures.

    colour   whether the network takes colour pictures; otherwise they are converted to grey
    ground   0..255, value of the background: under transparency and beside fitted pictures
    ink      0..255, value of strokes; None for photographs. With an ink, a picture is inverted if
             its border is nearer to the ink than to the ground
    ink_box  side, in pixels, of the square to which the ink is cut out and scaled, with its centre
             of mass in the middle of the input; None: the whole picture is resized
    resize   stretch: both sides to the input's; fit: the whole picture inside, ground beside it;
             crop: the middle part of the picture with the input's aspect ratio
    mean     smallest and largest mean value of a training image
    invert   invert every picture, whatever its border
    crop     (left, top, width, height) of the part to use, in pixels of the upright picture
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
        """Check every field; ``BundleError`` names a wrong one."""
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
        """Return the steps as a JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Parse a JSON value; unknown fields are an error, missing ones get their default."""
        fields = dict(value)
        for name in ("mean", "crop"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        return cls(**fields)


@dataclass(frozen=True)
class Changes:
    """A user's changes to a bundle's preprocessing; fields as in ``Preprocessing``."""

    invert: bool = False
    crop: tuple[int, int, int, int] | None = None
    resize: str | None = None

    def apply(self, steps: Preprocessing) -> Preprocessing:
        """Return the changed steps; if ``resize`` is changed, the whole picture is resized."""
        if self.resize is not None:
            steps = replace(steps, resize=self.resize, ink_box=None)
        return replace(steps, invert=steps.invert != self.invert, crop=self.crop or steps.crop)


# As MNIST's digits were prepared: the ink in a box of 20 by 20, centred by mass
# (LeCun et al. 1998, section III.A).
DIGITS = Preprocessing(colour=False, ink=255, ink_box=20, mean=(6.0, 102.0))
# As Fashion-MNIST's pictures were prepared: the longer side fitted, light on black
# (Xiao et al. 2017, section 2).
GARMENTS = Preprocessing(colour=False, ink=255, resize="fit", mean=(4.0, 192.0))
PHOTOGRAPHS = Preprocessing(colour=True, mean=(7.0, 253.0))


def default_preprocessing(shape: Shape, data: str) -> Preprocessing:
    """Return the preprocessing of bundles that lack it, by input shape and name of their data."""
    if shape == DIGIT_SHAPE and data == "mnist":
        return DIGITS
    if shape == DIGIT_SHAPE and data == "fashion-mnist":
        return GARMENTS
    return PHOTOGRAPHS if shape.channels == 3 else Preprocessing(colour=False)
