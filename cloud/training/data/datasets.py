"""Load and check the data sets of training: images and labels of a split.

A data set is one that was fetched, one that was imported, or a user's folder of four IDX files,
``{train,t10k}-{images-idx3,labels-idx1}-ubyte`` (``images-idx4`` for colour images).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloud.training.data.digests import sha256
from cloud.training.data.known import KNOWN
from cloud.training.data.splits import content_hashes, validation_mask
from cloud.training.data.stored import is_stored, read_arrays, read_description
from shared.errors import DatasetError, ImageError, UsageError
from shared.images.idx import LARGEST_CONTENT, expand, parse_idx, read_content, read_idx
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing, default_preprocessing

DATA_DIR_VARIABLE = "TAPER_DATA"
SPLITS = ("train", "validation", "test")
VALIDATION = 0.1  # share of the training images that are held out
PREFIXES = {"train": "train", "validation": "train", "test": "t10k"}  # file prefix by split


@dataclass(frozen=True)
class Dataset:
    """One split of a data set: images (N, H, W, C) with C = 1 for grey, labels (N,).

    ``digest`` is the SHA-256, in hex, of the uncompressed image file followed by the label file;
    for a part of these files, of that digest and the part's name. ``preprocessing`` says how
    pictures were turned into such images; bundles keep it.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    digest: str
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class Splits:
    """The splits of a data set: to train on, to make choices on, and to report results on.

    Raises ``UsageError`` if they differ in shape or classes, or if one is empty.
    """

    train: Dataset
    validation: Dataset
    test: Dataset

    def __post_init__(self) -> None:
        for part in (self.train, self.validation, self.test):
            if not len(part.images):
                raise UsageError(f"data: {part.name} has an empty part; give pictures for each")
            if part.images.shape[1:] != self.train.images.shape[1:]:
                raise UsageError(f"data: the parts of {part.name} have pictures of several shapes")
            if part.classes != self.train.classes:
                raise UsageError(f"data: the parts of {part.name} have different classes")

    @property
    def shape(self) -> Shape:
        """Shape of an image."""
        return Shape(*self.train.images.shape[1:])

    def described(self) -> dict[str, Any]:
        """Return numbers of images and digests, as bundles keep them."""
        parts = zip(SPLITS, (self.train, self.validation, self.test), strict=True)
        found: dict[str, Any] = {}
        for name, part in parts:
            found |= {f"{name}_images": len(part.images), f"{name}_digest": part.digest}
        return found


def load(name_or_path: str, data_dir: Path, split: str, validation: float = VALIDATION) -> Dataset:
    """Load a split, one of ``SPLITS``, of a data set given by its name or a user's folder.

    The share ``validation`` of the training images is held out as the validation split; with 0,
    "train" holds all of them. Which images are held out depends only on their content. An imported
    data set has fixed splits, and its images stay on disk.

    The classes of a user's IDX files are "0" to "K-1". Raises ``DatasetError`` if the data set has
    not been fetched or is damaged, ``ImageError`` for a bad file in a user's folder, and
    ``UsageError`` for an unknown name, folder or split.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is unknown; known: {', '.join(SPLITS)}")
    if not 0 <= validation < 1:
        raise UsageError(
            f"validation: {validation:g} is not allowed; give a share from 0 to below 1"
        )
    for folder in (data_dir / name_or_path, Path(name_or_path)):
        if is_stored(folder):
            return _stored(name_or_path, folder, split)
    known = name_or_path in KNOWN
    whole = _fetched(name_or_path, data_dir, split) if known else _own(name_or_path, split)
    return whole if split == "test" else _part(whole, split, validation)


def splits_of(data: str, data_dir: Path = Path("data")) -> Splits:
    """Load all splits of a known data set, an imported one, or a folder of IDX files."""
    return Splits(*(load(data, data_dir, part) for part in SPLITS))


def _stored(name: str, folder: Path, split: str) -> Dataset:
    description = read_description(folder)
    images, labels = read_arrays(folder, split)
    digest = description.digests.get(split, "")
    return Dataset(name, images, labels, description.classes, digest, description.steps)


def _fetched(name: str, data_dir: Path, split: str) -> Dataset:
    folder, digests = data_dir / name, KNOWN[name].digests
    paths = [folder / file for file in digests if file.startswith(f"{PREFIXES[split]}-")]
    contents = []
    for path in paths:
        if not path.is_file():
            raise DatasetError(
                f"{path}: is not there; run `python -m cloud.training.datasets fetch "
                f"{name} --data-dir {data_dir}`"
            )
        content = read_content(path)
        if sha256(content) != digests[path.name]:
            raise DatasetError(f"{path}: its SHA-256 is wrong; fetch {name} again")
        contents.append(content)
    data = _parse(name, paths, contents, KNOWN[name].classes)
    shape = Shape(*data.images.shape[1:])
    return replace(data, preprocessing=default_preprocessing(shape, name))


def _own(name: str, split: str) -> Dataset:
    folder, prefix = Path(name), PREFIXES[split]
    if not folder.is_dir():
        raise UsageError(
            f"data set {name!r} is neither a folder nor known; known: {', '.join(KNOWN)}"
        )
    paths = [_find_images(folder, prefix), _find_labels(folder, prefix)]
    for path in paths:
        if path.stat().st_size > LARGEST_CONTENT:
            raise UsageError(
                f"{path}: is larger than {LARGEST_CONTENT} bytes; import the folder first: "
                f"python -m cloud.training.datasets import {folder} --size HxW"
            )
    contents = [expand(read_content(path), str(path)) for path in paths]
    data = _parse(name, paths, contents, _folder_classes(folder))
    if split == "test":
        shape, trained = (
            read_idx(path).shape[1:] for path in (paths[0], _find_images(folder, "train"))
        )
        if shape != trained:
            raise ImageError(
                f"{paths[0]}: has images of shape {shape}; expected {trained}, as those for "
                "training"
            )
    return replace(data, preprocessing=_measured(data.images))


def _parse(
    name: str, paths: list[Path], contents: list[bytes], classes: tuple[str, ...]
) -> Dataset:
    images, labels = (
        parse_idx(content, str(path)) for content, path in zip(contents, paths, strict=True)
    )
    _check_split(images, labels, len(classes), *paths)
    return Dataset(
        name,
        images if images.ndim == 4 else images[..., np.newaxis],
        labels.astype(np.int64),
        classes,
        sha256(*contents),
    )


def _measured(images: npt.NDArray[np.uint8]) -> Preprocessing | None:
    """Measure the preprocessing that images of this kind have gone through; None if unknown."""
    if images.shape[3] not in (1, 3):
        return None
    means = [float(image.mean()) for image in images]
    range_ = (float(np.floor(min(means))), float(np.ceil(max(means))))
    return Preprocessing(colour=images.shape[3] == 3, mean=range_)


def _part(whole: Dataset, split: str, validation: float) -> Dataset:
    """Return the images of ``whole`` that belong to ``split``: held out, or not."""
    if split == "train" and not validation:
        return whole
    held = validation_mask(content_hashes(whole.images), whole.labels, validation)
    kept = held if split == "validation" else ~held
    return replace(
        whole,
        images=whole.images[kept],
        labels=whole.labels[kept],
        digest=sha256(f"{whole.digest} {split} {validation:g}".encode()),
    )


def _folder_classes(folder: Path) -> tuple[str, ...]:
    """Derive the classes of a user's folder from its training labels."""
    path = _find_labels(folder, "train")
    labels = read_idx(path)
    present = np.unique(labels)
    if len(present) < 2 or present[-1] != len(present) - 1:
        raise ImageError(
            f"{path}: has the labels {', '.join(map(str, present)) or 'of no image'}; expected at "
            "least 0 and 1, and no gap"
        )
    return tuple(str(label) for label in present)


def _check_split(
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    classes: int,
    images_path: Path,
    labels_path: Path,
) -> None:
    if images.ndim not in (3, 4) or not images.size:
        raise ImageError(
            f"{images_path}: has the shape {images.shape}; expected (N, H, W) or (N, H, W, C), "
            "none of them 0"
        )
    if labels.shape != images.shape[:1]:
        raise ImageError(
            f"{labels_path}: has labels of shape {labels.shape}; expected ({len(images)},), one "
            f"for each image of {images_path.name}"
        )
    if labels.max() >= classes:
        raise ImageError(
            f"{labels_path}: has the label {labels.max()}; expected 0 to {classes - 1}"
        )


def _find_images(folder: Path, prefix: str) -> Path:
    return _find(folder, f"{prefix}-images-idx3-ubyte", f"{prefix}-images-idx4-ubyte")


def _find_labels(folder: Path, prefix: str) -> Path:
    return _find(folder, f"{prefix}-labels-idx1-ubyte")


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                return path
    raise ImageError(f"{folder}: has no file {' or '.join(names)}, plain or .gz")
