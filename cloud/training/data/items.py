"""Read labelled pictures from class folders, tables, arrays or torch Datasets.

Every source yields ``Item`` values one at a time; a picture is decoded only when it is read.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cloud.training.data.large_idx import open_any_idx
from shared.errors import ImageError, UsageError
from shared.images.arrays import UNREADABLE_ARRAY, ImageArray, as_images, read_npy
from shared.images.decoding import Decoded
from shared.images.folders import is_array, walk
from shared.images.labels import read_table
from shared.images.pictures import prepare, prepare_file
from shared.images.values import Bytes, to_bytes, white_of
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing

# Usual names of the parts of a data set, and ours.
PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k", "eval"),
}
IMAGES, LABELS = re.compile(r"images?|(^|_)x($|_)"), re.compile(r"labels?|(^|_)y($|_)")


@dataclass(frozen=True)
class Item:
    """A picture: its name, its class as the source writes it, and the part it is in, if any.

    ``read`` returns the picture (H, W, C) prepared for the network; ``ImageError`` if unreadable.
    """

    name: str
    label: str
    part: str | None
    read: Callable[[], Bytes]


@dataclass(frozen=True)
class Target:
    """The form into which pictures are converted."""

    shape: Shape
    steps: Preprocessing

    def file(self, path: Path) -> Callable[[], Bytes]:
        """Return a function that reads and prepares a picture file."""

        def read() -> Bytes:
            if not path.is_file():
                raise ImageError(f"{path} is not a file")
            return prepare_file(path, str(path), self.shape, self.steps).image

        return read

    def pixels(self, image: Bytes, name: str) -> Bytes:
        """Prepare the pixels (H, W, C) of a picture; a fourth channel is alpha."""
        alpha = image[:, :, 3] if image.shape[2] == 4 else None
        colour = np.ascontiguousarray(image[:, :, :3])
        decoded = Decoded(colour, alpha, (image.shape[1], image.shape[0]))
        return prepare(decoded, name, self.shape, self.steps).image


def items_of(source: str, target: Target, labels: Path | None = None) -> Iterator[Item]:
    """Yield all pictures of a source; ``UsageError`` or ``ImageError`` names what is wrong."""
    path = Path(source)
    if path.is_dir():
        pairs = _array_pairs(path)
        return _from_pairs(pairs, target) if pairs else _from_folders(path, target)
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix == ".npz":
            return _from_npz(path, target)
        if is_array(path):
            if labels is None:
                raise UsageError(f"--labels: are needed for {path}, which holds images only")
            return _from_pairs([(path, labels, None)], target)
        return _from_table(path, target)
    if re.fullmatch(r"[\w.]+:[\w.]+", source):
        return _from_dataset(source, target)
    raise UsageError(
        f"SOURCE: {source!r} is neither a folder, a file, nor MODULE:NAME of a torch Dataset"
    )


def part_of(name: str) -> str | None:
    """Return the part that the name of a folder, file or key stands for; None if none."""
    words = re.split(r"[^a-z0-9]+", name.casefold())
    return next((part for part, names in PARTS.items() if set(words) & set(names)), None)


def _from_folders(root: Path, target: Target) -> Iterator[Item]:
    """Yield pictures in class folders, which may be in folders of parts."""
    entries = [entry for entry in walk(root) if not is_array(entry.path)]
    tops = {entry.path.relative_to(root).parts[0] for entry in entries}
    parts = {top: part_of(top) for top in tops if (root / top).is_dir()}
    in_parts = bool(parts) and all(parts.values())
    for entry in entries:  # in natural order, one folder after the other
        folders = entry.path.relative_to(root).parts[:-1]
        own = folders[1:] if in_parts else folders
        if not own:
            raise UsageError(
                f"SOURCE: {entry.path} is in no class folder; expected {root}/CLASS/picture or "
                f"{root}/train/CLASS/picture"
            )
        part = parts.get(folders[0]) if in_parts else None
        read = _failing(f"{entry.path} {entry.problem}") if entry.problem else None
        yield Item(str(entry.path), own[0], part, read or target.file(entry.path))


def _failing(reason: str) -> Callable[[], Bytes]:
    def read() -> Bytes:
        raise ImageError(reason)

    return read


def _from_table(path: Path, target: Target) -> Iterator[Item]:
    """Yield the rows (file, label) of a table; paths are relative to the table's folder."""
    rows = read_table(path, str(path))
    if len(rows[0]) < 2:
        raise UsageError(f"SOURCE: {path} has one column; file and label are needed")
    for file, label, *_ in rows:
        place = path.parent / file
        top = file.replace("\\", "/").split("/")[0]
        yield Item(str(place), label, part_of(top) if "/" in file else None, target.file(place))


def _array_pairs(folder: Path) -> list[tuple[Path, Path, str | None]]:
    """Find pairs of image and label files: IDX named as MNIST's or Kaggle's, or .npy."""
    arrays = [path for path in sorted(folder.iterdir()) if path.is_file() and _is_array(path)]
    pairs = []
    for images in (path for path in arrays if IMAGES.search(_stem(path))):
        part = part_of(_stem(images))
        wanted = [p for p in arrays if LABELS.search(_stem(p)) and part_of(_stem(p)) == part]
        if len(wanted) != 1:
            raise UsageError(f"SOURCE: {images} has {len(wanted)} files of labels; one is needed")
        pairs.append((images, wanted[0], part))
    return pairs


def _is_array(path: Path) -> bool:
    return is_array(path) or "idx1" in path.name or "idx3" in path.name or "idx4" in path.name


def _stem(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "_", path.name.casefold().split(".npy")[0])


def _from_pairs(pairs: list[tuple[Path, Path, str | None]], target: Target) -> Iterator[Item]:
    for images, labels, part in pairs:
        array = as_images(_read(images), str(images), target.shape)
        yield from _from_arrays(array, _read(labels), part, str(images), target)


def _read(path: Path) -> npt.NDArray[np.generic]:
    return read_npy(path, str(path)) if path.suffix.lower() == ".npy" else open_any_idx(path)


def _from_npz(path: Path, target: Target) -> Iterator[Item]:
    """Yield pictures of a .npz file with Keras' names x_train, y_train, or images, labels."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            for key in (name for name in names if IMAGES.search(name.casefold())):
                part = part_of(key)
                fitting = [n for n in names if LABELS.search(n.casefold()) and part_of(n) == part]
                if len(fitting) != 1:
                    raise UsageError(f"SOURCE: {path}: {key} has no array of labels beside it")
                name = f"{path}:{key}"
                array = as_images(archive[key], name, target.shape)
                yield from _from_arrays(array, archive[fitting[0]], part, name, target)
    except UNREADABLE_ARRAY as error:
        raise ImageError(f"{path}: is no readable .npz file ({error})") from None


def _from_arrays(
    array: ImageArray, labels: npt.NDArray[Any], part: str | None, name: str, target: Target
) -> Iterator[Item]:
    if labels.size != len(array):
        raise ImageError(f"{name}: has {len(array)} images and {labels.size} labels")
    for index, label in enumerate(labels.reshape(-1)):

        def read(index: int = index) -> Bytes:
            pixels = to_bytes(array.images[index], array.white)
            return target.pixels(np.asarray(pixels), f"{name}[{index}]")

        text = str(label.item()) if labels.dtype.kind in "US" else str(int(label))
        yield Item(f"{name}[{index}]", text, part, read)


def _from_dataset(source: str, target: Target) -> Iterator[Item]:
    """Yield the items (image, label) of a torch ``Dataset``, or of a function that returns one."""
    module, name = source.split(":")
    try:
        found: Any = importlib.import_module(module)
        for word in name.split("."):
            found = getattr(found, word)
        made_by_call = isinstance(found, type) or not hasattr(found, "__getitem__")
        data = found() if made_by_call else found
        count = len(data)
    except (ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"SOURCE: {source} gives no Dataset ({error})") from None
    names = getattr(data, "classes", None)
    for index in range(count):
        pixels, label = data[index]
        text = str(names[int(label)]) if names is not None else str(label)

        def read(pixels: Any = pixels, index: int = index) -> Bytes:
            return target.pixels(_pixels_of(pixels, f"{source}[{index}]"), f"{source}[{index}]")

        yield Item(f"{source}[{index}]", text, None, read)


def _pixels_of(value: Any, name: str) -> Bytes:
    """Convert a Pillow image, an array (H, W[, C]) or a tensor (C, H, W) to bytes (H, W, C)."""
    if isinstance(value, Image.Image):
        grey = value.mode in ("1", "L")
        array = np.asarray(value.convert("L" if grey else "RGB"))
    else:
        array = np.asarray(value)
        if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
            array = array.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise ImageError(f"{name} has shape {array.shape}; one picture is needed")
    return to_bytes(array, white_of(array, name) if array.dtype != np.uint8 else 255.0)
