"""Imported data sets on disk: a folder of .npy arrays, which are read when they are used.

dataset.json                         name, classes, preprocessing, digest of every split
{train,validation,test}-images.npy   uint8 (N, H, W, C)
{train,validation,test}-labels.npy   int64 (N,)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import BundleError, DatasetError
from shared.model.preprocessing import Preprocessing

DESCRIPTION = "dataset.json"
FORMAT = 1


@dataclass(frozen=True)
class Description:
    """The content of ``dataset.json``; ``digests`` are by name of the split."""

    name: str
    classes: tuple[str, ...]
    steps: Preprocessing
    digests: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the description as a JSON value."""
        return {
            "format": FORMAT,
            "name": self.name,
            "classes": list(self.classes),
            "preprocessing": self.steps.to_json(),
            "digests": self.digests,
        }


def is_stored(folder: Path) -> bool:
    """Whether the folder is an imported data set."""
    return (folder / DESCRIPTION).is_file()


def read_description(folder: Path) -> Description:
    """Read the description of an imported data set; ``DatasetError`` if it is damaged."""
    path = folder / DESCRIPTION
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise DatasetError(f"{path}: has format {value['format']}; import the data again")
        return Description(
            str(value["name"]),
            tuple(str(name) for name in value["classes"]),
            Preprocessing.from_json(value["preprocessing"]),
            {str(split): str(digest) for split, digest in value["digests"].items()},
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, BundleError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); import the data again") from None


def read_arrays(folder: Path, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the images (N, H, W, C), mapped from disk, and labels (N,); ``DatasetError``."""
    try:
        # Copy on write, since torch requires writable arrays.
        images = np.load(folder / f"{split}-images.npy", mmap_mode="c", allow_pickle=False)
        labels = np.load(folder / f"{split}-labels.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"{folder}: {split} cannot be read ({error}); import it again") from None
    if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise DatasetError(f"{folder}: {split} is damaged; import the data again")
    return images, labels.astype(np.int64)
