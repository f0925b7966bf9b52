"""Import pictures as a data set: decode each once, with few in memory, then divide into splits."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from cloud.training.data.gathering import JOURNAL, PIXELS, Gathered, gather
from cloud.training.data.items import Item, Target
from cloud.training.data.splits import test_mask, validation_mask
from cloud.training.data.stored import DESCRIPTION, Description
from shared.errors import DatasetError, TaperError, UsageError
from shared.images.folders import natural
from shared.model.preprocessing import Preprocessing

SPLITS = ("train", "validation", "test")
CHUNK = 256  # pictures copied at a time
UNIFORM_SHARE = 0.9  # pictures have a common background if this share have borders of one value
UNIFORM_SPREAD = 8.0  # of 255: largest spread of those values


@dataclass
class Report:
    """What an import found.

    counts      pictures of each class in each split
    duplicates  repeated pictures
    crossing    pictures that are in several parts of the source; they are left out of training
    conflicts   pictures that occur with different labels
    broken      unreadable files; ``examples`` holds the first of them with the reasons
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    duplicates: int = 0
    crossing: int = 0
    conflicts: int = 0
    broken: int = 0
    examples: list[str] = field(default_factory=list)


def import_pictures(
    items: Iterable[Item],
    target: Target,
    folder: Path,
    shares: tuple[float, float],
    on_picture: Callable[[int], None] = lambda _: None,
    threads: int = 1,
) -> Report:
    """Write the data set ``folder`` with all pictures of ``items``, decoded in ``threads`` threads.

    ``shares`` are the shares of validation and test, used if the source has no such part. The
    folder appears only when it is complete; calling this again resumes an import that was killed.
    ``on_picture`` receives the number of pictures done. ``DatasetError`` if there are too few
    pictures or classes.
    """
    if folder.exists():
        raise UsageError(f"--name: {folder} is there; remove it or give another name")
    scratch = folder.with_name(f".{folder.name}.part")
    try:
        found = gather(items, target, scratch, on_picture, threads)
        report = Report(broken=found.broken, examples=found.examples)
        classes = _classes(found, folder.name)
        splits = _split(found, classes, shares, report)
        digests = {
            split: _write(scratch, split, scratch / PIXELS, target, splits, found, classes)
            for split in SPLITS
        }
        (scratch / PIXELS).unlink()
        (scratch / JOURNAL).unlink()
        _count(report, splits, found)
        steps = _described(target, splits, found)
        description = Description(folder.name, classes, steps, digests)
        text = json.dumps(description.to_json(), indent=1) + "\n"
        (scratch / DESCRIPTION).write_text(text, encoding="utf-8")
        scratch.rename(folder)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise UsageError(f"--data-dir: cannot write {folder} ({error.strerror})") from error
    except TaperError:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return report


def _classes(found: Gathered, name: str) -> tuple[str, ...]:
    classes = tuple(sorted(set(found.labels), key=lambda text: natural(Path(f"{text}."))))
    if len(classes) < 2:
        broken = f"; {found.broken} could not be read" if found.broken else ""
        raise DatasetError(
            f"{name}: {len(found.labels)} pictures of {len(classes)} classes; at least two classes "
            f"are needed{broken}"
        )
    return classes


def _split(
    found: Gathered, classes: tuple[str, ...], shares: tuple[float, float], report: Report
) -> npt.NDArray[np.str_]:
    """Return the split of each picture: its part of the source, or chosen by its hash."""
    hashes = np.array(found.hashes, dtype=np.uint64)
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number[label] for label in found.labels])
    splits = np.array([part or "train" for part in found.parts], dtype="<U10")
    _, counts = np.unique(hashes, return_counts=True)
    report.duplicates = int((counts - 1).sum())
    report.conflicts = _conflicts(hashes, labels)
    held = np.isin(hashes, hashes[splits != "train"]) & (splits == "train")
    report.crossing = int(held.sum())
    splits[held] = "left out"
    if "test" not in splits:
        train = splits == "train"
        splits[np.flatnonzero(train)[test_mask(hashes[train], labels[train], shares[1])]] = "test"
    if "validation" not in splits:
        train = splits == "train"
        mask = validation_mask(hashes[train], labels[train], shares[0])
        splits[np.flatnonzero(train)[mask]] = "validation"
    return splits


def _conflicts(hashes: npt.NDArray[np.uint64], labels: npt.NDArray[np.int64]) -> int:
    pairs = {(int(one), int(label)) for one, label in zip(hashes, labels, strict=True)}
    return len(pairs) - len({one for one, _ in pairs})


def _write(
    folder: Path,
    split: str,
    pixels: Path,
    target: Target,
    splits: npt.NDArray[np.str_],
    found: Gathered,
    classes: tuple[str, ...],
) -> str:
    """Write the arrays of one split; return the SHA-256 of images and labels."""
    rows = np.flatnonzero(splits == split)
    if not len(rows):
        raise DatasetError(f"{folder.name}: no picture is left for {split}")
    # Sorted by the hash of their content, so that any consecutive pictures are a fair sample; the
    # source's order would give one class after the other.
    rows = rows[np.argsort(np.array(found.hashes, dtype=np.uint64)[rows], kind="stable")]
    shape = (target.shape.height, target.shape.width, target.shape.channels)
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([number[found.labels[row]] for row in rows], dtype=np.int64)
    images = open_memmap(folder / f"{split}-images.npy", "w+", np.uint8, (len(rows), *shape))
    digest = hashlib.sha256()
    for start, chunk in zip(range(0, len(rows), CHUNK), _chunks(pixels, rows, shape), strict=True):
        images[start : start + len(chunk)] = chunk
        digest.update(chunk.tobytes())
    images.flush()
    digest.update(labels.tobytes())
    np.save(folder / f"{split}-labels.npy", labels)
    return digest.hexdigest()


def _chunks(
    pixels: Path, rows: npt.NDArray[np.intp], shape: tuple[int, int, int]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the pictures ``rows``, ``CHUNK`` at a time; reads instead of mapping to save memory."""
    size = int(np.prod(shape))
    with pixels.open("rb") as file:
        for start in range(0, len(rows), CHUNK):
            chunk = np.empty((len(rows[start : start + CHUNK]), *shape), np.uint8)
            for place, row in enumerate(rows[start : start + CHUNK]):
                file.seek(int(row) * size)
                chunk[place] = np.frombuffer(file.read(size), np.uint8).reshape(shape)
            yield chunk


def _count(report: Report, splits: npt.NDArray[np.str_], found: Gathered) -> None:
    labels = np.array(found.labels)
    for split in SPLITS:
        report.counts[split] = Counter(labels[splits == split].tolist())


def _described(target: Target, splits: npt.NDArray[np.str_], found: Gathered) -> Preprocessing:
    """Return the preprocessing with the measured properties of the training pictures."""
    train = splits == "train"
    means, borders = np.array(found.means)[train], np.array(found.borders)[train]
    ground = float(np.median(borders))
    uniform = float((np.abs(borders - ground) <= UNIFORM_SPREAD).mean()) >= UNIFORM_SHARE
    return replace(
        target.steps,
        mean=(float(np.floor(means.min())), float(np.ceil(means.max()))),
        ground=round(ground) if uniform else target.steps.ground,
    )
