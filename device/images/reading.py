"""Reading what the user wants classified: image files, folders, IDX files, arrays, stdin."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
import numpy.typing as npt

from shared.data.sample import sample_digits
from shared.errors import ImageError
from shared.images.idx import parse_idx
from shared.model.architecture import Shape

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
IDX_NAMES = (".idx", "-ubyte", ".idx.gz", "-ubyte.gz")
# What numpy raises for damaged files.
UNREADABLE_ARRAY = (ValueError, EOFError, TypeError, SyntaxError, MemoryError, TokenError)

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSet:
    """Images as the network wants them.

    images  uint8 (N, H, W, C)
    names   one a row
    labels  int64 (N,) where they are known
    resized how many had another size and were scaled
    """

    images: Images
    names: tuple[str, ...]
    labels: npt.NDArray[np.int64] | None = None
    resized: int = 0


def sample_images(shape: Shape) -> ImageSet:
    """The shipped sample of MNIST test digits with their labels."""
    images, labels = sample_digits()
    names = tuple(f"sample[{index}]" for index in range(len(images)))
    return _fit(list(images), names, shape, labels.astype(np.int64))


def read_images(source: str, shape: Shape) -> ImageSet:
    """Images from a file, a folder, or ``-`` (one image on standard input).

    An image of another size or colour is converted to ``shape`` by scaling; ``resized`` counts
    those. Raises ``ImageError`` with one line that names the file.
    """
    if source == "-":
        image = _decode(sys.stdin.buffer.read(), "standard input", shape)
        return _fit([image], ("-",), shape)
    path = Path(source)
    if _is_folder(path):
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise ImageError(f"--input: folder {source} has no image files")
        images = [_decode(_read(file), str(file), shape) for file in files]
        return _fit(images, tuple(str(file) for file in files), shape)
    if path.suffix == ".npy":
        return _from_array(_load_npy(path, "--input"), source, shape)
    if path.name.endswith(IDX_NAMES):
        return _from_array(_parse_idx(path, "--input"), source, shape)
    return _fit([_decode(_read(path), source, shape)], (source,), shape)


def read_labels(path: Path, count: int) -> npt.NDArray[np.int64]:
    """Labels (count,) from an IDX or .npy file; ``ImageError`` if there are more or fewer."""
    read = _load_npy if path.suffix == ".npy" else _parse_idx
    array = read(path, "--labels")
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise ImageError(
            f"--labels: {path} holds {array.dtype}{array.shape}; {count} whole numbers are needed"
        )
    return array.astype(np.int64)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise ImageError(f"--input: {path} cannot be read ({error.strerror})") from None


def _read(path: Path, flag: str = "--input") -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{flag}: {path} cannot be read ({error.strerror})") from None
    if not data:
        raise ImageError(f"{flag}: {path} is empty")
    return data


def _decode(data: bytes, name: str, shape: Shape) -> Images:
    """One image as (H, W, C) in the colours of ``shape``."""
    if not data:
        raise ImageError(f"--input: {name} is empty")
    # Here, since Pillow costs time and memory that arrays of the right size do without.
    from shared.images.pictures import decode

    return decode(data, name, shape)


def _load_npy(path: Path, flag: str) -> npt.NDArray[np.generic]:
    data = io.BytesIO(_read(path, flag))
    try:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(data, allow_pickle=False)
    except UNREADABLE_ARRAY:
        raise ImageError(f"{flag}: {path} is no readable .npy file") from None
    return array


def _parse_idx(path: Path, flag: str) -> npt.NDArray[np.uint8]:
    data = _read(path, flag)
    try:
        return parse_idx(data, str(path))
    except ImageError as error:
        raise ImageError(f"{flag}: {error}") from None


def _from_array(array: npt.NDArray[np.generic], source: str, shape: Shape) -> ImageSet:
    """Images from (N, H, W), (N, H, W, C), or a single one as (H, W) or (H, W, C)."""
    if array.dtype != np.uint8:
        raise ImageError(f"--input: {source} holds {array.dtype}; uint8 pixels are needed")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == shape.channels != array.shape[1]):
        array = array[None]
    if array.ndim == 3:
        array = array[:, :, :, None]
    if array.ndim != 4 or array.shape[3] != shape.channels or 0 in array.shape:
        raise ImageError(
            f"--input: {source} has shape {array.shape}; images of {shape.channels} channels as "
            "(N, H, W) or (N, H, W, C) are needed"
        )
    names = tuple(f"{source}[{index}]" for index in range(len(array)))
    return _fit(list(array.astype(np.uint8)), names, shape)


def _fit(
    images: Sequence[Images],
    names: tuple[str, ...],
    shape: Shape,
    labels: npt.NDArray[np.int64] | None = None,
) -> ImageSet:
    wanted = (shape.height, shape.width, shape.channels)
    fitted = []
    resized = 0
    for image in images:
        cube = image.reshape(*image.shape[:2], -1)
        if cube.shape != wanted:
            from shared.images.pictures import scale

            cube = scale(cube, shape)
            resized += 1
        fitted.append(cube)
    return ImageSet(np.stack(fitted), names, labels, resized)
