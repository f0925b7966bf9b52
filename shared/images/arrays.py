"""Read arrays of images in any unambiguous layout: (N, H, W), (N, C, H, W), flat rows and more.

The value of white is determined from the whole array, so that all its images are scaled equally.
Large arrays stay on disk and are read image by image.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt

from shared.errors import ImageError
from shared.images.idx import open_idx
from shared.images.values import Array, Bytes, note_of, to_bytes, white_of
from shared.model.architecture import Shape

# Errors that numpy raises for damaged files.
UNREADABLE_ARRAY = (
    *(ValueError, EOFError, TypeError, SyntaxError, MemoryError, TokenError, KeyError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)
CHANNELS = (1, 3, 4)
IMAGE_NAMES = ("images", "x", "x_test", "test_images", "data", "arr_0")
LABEL_NAMES = ("labels", "y", "y_test", "test_labels", "targets", "arr_1")
LAYOUTS = "(N, H, W), (N, H, W, C), (N, C, H, W), rows of H*W, or one image"
AT_ONCE = 256  # images examined at a time for the range of values


@dataclass(frozen=True)
class ImageArray:
    """Images (N, H, W, C) of any number type, with the value of white, and labels if known."""

    images: Array
    white: float
    labels: npt.NDArray[np.int64] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the range of values."""
        return tuple(note_of(self.images, self.white))

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Bytes]:
        """Yield every image as bytes (H, W, C)."""
        for image in self.images:
            yield to_bytes(image, self.white)


def read_array(path: Path, name: str, shape: Shape) -> ImageArray:
    """Read the images in a .npy, .npz or IDX file; ``ImageError`` starts with ``name``."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays = _read_npz(path, name)
        images, labels = _chosen(arrays, name)
        return as_images(images, name, shape, labels)
    array = read_npy(path, name) if suffix == ".npy" else open_idx(path)
    return as_images(array, name, shape)


def read_npy(path: Path, name: str) -> Array:
    """Open the array of a .npy file, which stays on disk; ``ImageError``."""
    if not path.is_file():
        raise ImageError(f"{name} cannot be read (no such file)")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{name} is empty")
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE_ARRAY:
        raise ImageError(f"{name} is no readable .npy file") from None
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror})") from None
    return array


def as_images(array: Array, name: str, shape: Shape, labels: Array | None = None) -> ImageArray:
    """Convert an array to (N, H, W, C); ``ImageError`` if its layout is unknown or ambiguous."""
    if array.dtype.kind not in "buif":
        raise ImageError(f"{name} holds {array.dtype}; numbers are needed")
    images = _as_cubes(array, shape)
    if images is None or 0 in images.shape:
        raise ImageError(f"{name} has shape {array.shape}; images as {LAYOUTS} are needed")
    if labels is not None and labels.shape != (len(images),):
        labels = None
    white = _white_of_all(images, name)
    return ImageArray(images, white, None if labels is None else labels.astype(np.int64))


def _white_of_all(images: Array, name: str) -> float:
    """Return ``white_of`` the whole array, computed part by part."""
    if images.dtype == np.uint8:
        some = max(int(images[at : at + AT_ONCE].max()) for at in range(0, len(images), AT_ONCE))
        return 255.0 if some != 1 else 1.0
    parts = [images[at : at + AT_ONCE] for at in range(0, len(images), AT_ONCE)]
    ends = [extreme for part in parts for extreme in (part.min(), part.max())]
    return white_of(np.array(ends, dtype=images.dtype), name)


def _as_cubes(array: Array, shape: Shape) -> Array | None:
    """Return the array as (N, H, W, C); None if no layout fits, or several do."""
    height, width, channels = shape.height, shape.width, shape.channels
    pixels = height * width * channels
    match array.ndim:
        case 1 if array.shape == (pixels,) and channels == 1:
            return array.reshape(1, height, width, 1)
        case 2:
            if array.shape == (pixels, pixels):
                return None
            if array.shape[1] == pixels and channels == 1:
                return array.reshape(-1, height, width, 1)
            if array.shape[1] == pixels:  # rows may hold planes or pixels: ambiguous
                return None
            return array[None, :, :, None]
        case 3:
            return _from_three(array, shape)
        case 4:
            return _from_four(array, shape)
    return None


def _from_three(array: Array, shape: Shape) -> Array | None:
    """Convert (N, H, W), (H, W, C) or (C, H, W)."""
    size = (shape.height, shape.width)
    if array.shape[1:] == size and not (shape.channels == array.shape[0] == 3):
        return array[:, :, :, None]
    if array.shape[2] in CHANNELS and array.shape[1] not in CHANNELS:
        return array[None]
    if array.shape[0] == 3 == shape.channels:
        return array.transpose(1, 2, 0)[None]
    if array.shape[:2] == size:  # N images of another size, or (H, W, N)
        return None
    return array[:, :, :, None]


def _from_four(array: Array, shape: Shape) -> Array | None:
    """Convert (N, H, W, C) or (N, C, H, W)."""
    size = (shape.height, shape.width)
    last, first = array.shape[3] in CHANNELS, array.shape[1] in CHANNELS
    if last and first:
        last, first = array.shape[1:3] == size, array.shape[2:] == size
    if last and not first:
        return array
    return array.transpose(0, 2, 3, 1) if first and not last else None


def _read_npz(path: Path, name: str) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except UNREADABLE_ARRAY:
        raise ImageError(f"{name} is no readable .npz file") from None
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror})") from None


def _chosen(arrays: dict[str, Array], name: str) -> tuple[Array, Array | None]:
    """Choose images and labels in an archive by the usual names."""
    named = {key.lower(): array for key, array in arrays.items()}
    candidates = [key for key in IMAGE_NAMES if key in named]
    if not candidates:
        whole = [key for key, array in named.items() if array.ndim > 1]
        if len(whole) != 1:
            raise ImageError(
                f"{name} holds {', '.join(arrays) or 'nothing'}; one array of images, or one "
                f"called {' or '.join(IMAGE_NAMES[:2])}, is needed"
            )
        candidates = whole
    found = [key for key in LABEL_NAMES if key in named and named[key].dtype.kind in "ui"]
    return named[candidates[0]], named[found[0]].reshape(-1) if found else None
