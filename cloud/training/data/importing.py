"""Import pictures into a stored data set: decoded once, one in memory at a time, then split."""

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

from cloud.training.data.items import Item, Target
from cloud.training.data.splits import content_hashes, test_mask, validation_mask
from cloud.training.data.stored import DESCRIPTION, Description
from shared.errors import DatasetError, ImageError, UsageError
from shared.images.folders import natural
from shared.images.ready import border
from shared.model.preprocessing import Preprocessing

SPLITS = ("train", "validation", "test")
CHUNK = 256  # pictures that are copied at a time
NAMED = 10  # broken files whose names are kept
UNIFORM_SHARE = 0.9  # of the pictures, whose borders have one value, for it to be the ground
UNIFORM_SPREAD = 8.0  # of 255: how far borders of one ground are from each other


@dataclass
class Report:
    """What an import found.

    counts     pictures of each class in each split
    duplicates copies of a picture within the data; ``crossing`` those that were in several parts
               of the source, which are left out of training; ``conflicts`` with several labels
    broken     files that could not be read, ``examples`` the first of them with the reason
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    duplicates: int = 0
    crossing: int = 0
    conflicts: int = 0
    broken: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class _Gathered:
    """What is known of every picture, in the order of the source."""

    labels: list[str] = field(default_factory=list)
    parts: list[str | None] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    borders: list[float] = field(default_factory=list)


def import_pictures(
    items: Iterable[Item],
    target: Target,
    folder: Path,
    shares: tuple[float, float],
    on_picture: Callable[[int], None] = lambda _: None,
) -> Report:
    """Write the data set ``folder`` with all pictures of ``items``.

    ``shares`` are those of validation and test, for what the source has no such part of. The folder
    is there as a whole or not at all. ``DatasetError`` if there are too few pictures or classes.
    """
    if folder.exists():
        raise UsageError(f"--name: {folder} is there; remove it or give another name")
    scratch = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        report = Report()
        pixels = scratch / "pixels"
        gathered = _gather(items, pixels, report, on_picture)
        classes = _classes(gathered, folder.name, report)
        splits = _split(gathered, classes, shares, report)
        digests = {
            split: _write(scratch, split, pixels, target, splits, gathered, classes)
            for split in SPLITS
        }
        pixels.unlink()
        _count(report, splits, gathered)
        steps = _described(target, splits, gathered)
        description = Description(folder.name, classes, steps, digests)
        text = json.dumps(description.to_json(), indent=1) + "\n"
        (scratch / DESCRIPTION).write_text(text, encoding="utf-8")
        scratch.rename(folder)
    except OSError as error:
        raise UsageError(f"--data-dir: cannot write {folder} ({error.strerror})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return report


def _gather(
    items: Iterable[Item], path: Path, report: Report, on_picture: Callable[[int], None]
) -> _Gathered:
    """Decode every picture into one file of pixels; what is broken is counted and left out."""
    found = _Gathered()
    with path.open("wb") as file:
        for number, item in enumerate(items, 1):
            try:
                image = np.ascontiguousarray(item.read())
            except ImageError as error:
                report.broken += 1
                if len(report.examples) < NAMED:
                    report.examples.append(str(error))
                continue
            finally:
                on_picture(number)
            file.write(image.data)
            found.labels.append(item.label)
            found.parts.append(item.part)
            found.hashes.append(int(content_hashes(image[None])[0]))
            found.means.append(float(image.mean()))
            found.borders.append(float(np.median(border(image[:, :, 0]))))
    return found


def _classes(found: _Gathered, name: str, report: Report) -> tuple[str, ...]:
    classes = tuple(sorted(set(found.labels), key=lambda text: natural(Path(f"{text}."))))
    if len(classes) < 2:
        broken = f"; {report.broken} could not be read" if report.broken else ""
        raise DatasetError(
            f"{name}: {len(found.labels)} pictures of {len(classes)} classes; at least two classes "
            f"are needed{broken}"
        )
    return classes


def _split(
    found: _Gathered, classes: tuple[str, ...], shares: tuple[float, float], report: Report
) -> npt.NDArray[np.str_]:
    """The split of every picture: its part of the source, else by the hash of its content."""
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
    found: _Gathered,
    classes: tuple[str, ...],
) -> str:
    """The arrays of one split; gives the SHA-256 of images and labels."""
    rows = np.flatnonzero(splits == split)
    if not len(rows):
        raise DatasetError(f"{folder.name}: no picture is left for {split}")
    # By the hash of their content: any part of the pictures in a row is then a fair sample, where
    # the source's order would give a class at a time.
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
    """Pictures by their numbers, some at a time; the file is not mapped, so memory stays small."""
    size = int(np.prod(shape))
    with pixels.open("rb") as file:
        for start in range(0, len(rows), CHUNK):
            chunk = np.empty((len(rows[start : start + CHUNK]), *shape), np.uint8)
            for place, row in enumerate(rows[start : start + CHUNK]):
                file.seek(int(row) * size)
                chunk[place] = np.frombuffer(file.read(size), np.uint8).reshape(shape)
            yield chunk


def _count(report: Report, splits: npt.NDArray[np.str_], found: _Gathered) -> None:
    labels = np.array(found.labels)
    for split in SPLITS:
        report.counts[split] = Counter(labels[splits == split].tolist())


def _described(target: Target, splits: npt.NDArray[np.str_], found: _Gathered) -> Preprocessing:
    """The preprocessing with what the training pictures were like."""
    train = splits == "train"
    means, borders = np.array(found.means)[train], np.array(found.borders)[train]
    ground = float(np.median(borders))
    uniform = float((np.abs(borders - ground) <= UNIFORM_SPREAD).mean()) >= UNIFORM_SHARE
    return replace(
        target.steps,
        mean=(float(np.floor(means.min())), float(np.ceil(means.max()))),
        ground=round(ground) if uniform else target.steps.ground,
    )
