"""Image files and scaling, by Pillow. Imported only where there is a picture to decode or scale."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from shared.errors import ImageError
from shared.model.architecture import Shape

LARGEST_IMAGE_PIXELS = 64_000_000  # refuse decompression bombs

# What Pillow raises for damaged files, depending on their format.
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
    struct.error,
)


def decode(data: bytes, name: str, shape: Shape) -> npt.NDArray[np.uint8]:
    """One image file as (H, W, C) in the colours of ``shape``; ``ImageError`` names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, of sizes: those are checked here
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > LARGEST_IMAGE_PIXELS:
                    raise ImageError(f"--input: {name} has more than {LARGEST_IMAGE_PIXELS} pixels")
                converted = image.convert("L" if shape.channels == 1 else "RGB")
    except UNREADABLE_IMAGE:
        raise ImageError(
            f"--input: {name} is not an image; give PNG, JPEG, WebP, IDX, .npy or a folder"
        ) from None
    array = np.asarray(converted)
    return array[:, :, None] if array.ndim == 2 else array


def scale(image: npt.NDArray[np.uint8], shape: Shape) -> npt.NDArray[np.uint8]:
    """An image (H, W, C) of any size in the size and the colours of ``shape``."""
    mode = "L" if image.shape[2] == 1 else "RGB"
    picture = Image.fromarray(image[:, :, 0] if mode == "L" else image)
    picture = picture.convert("L" if shape.channels == 1 else "RGB")
    scaled = picture.resize((shape.width, shape.height), Image.Resampling.LANCZOS)
    return np.asarray(scaled).reshape(shape.height, shape.width, shape.channels)
