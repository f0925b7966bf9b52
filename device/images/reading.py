"""Read the user's pictures, with one image in memory at a time.

Files, folders, arrays and standard input become ``Picture`` values. An unreadable file in a folder
is skipped, and its name and the reason are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from device.live.sources import STDIN, LiveSettings, is_live
from shared.data.sample import sample_digits
from shared.errors import ImageError
from shared.images.folders import Entry, class_number, is_array, walk
from shared.images.ready import Prepared, unchanged
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing, default_preprocessing

# Decoders of pictures, arrays and tables are imported where they are needed: they would cost
# devices that classify arrays of the right size time and memory.
if TYPE_CHECKING:
    from device.live.frames import LiveFrames, LivePicture
    from shared.images.labels import Labels
    from shared.images.values import Bytes

NOT_LIVE = LiveSettings()
MOST_SKIPPED = 1000  # lines kept about skipped files


@dataclass(frozen=True)
class Picture:
    """An image (H, W, C) uint8 prepared for the network; ``label`` is its class, if known."""

    name: str
    image: Bytes
    label: int | None = None


@dataclass(frozen=True)
class ImageSet:
    """All images of a source: (N, H, W, C), a name for each, and labels if all are known."""

    images: Bytes
    names: tuple[str, ...]
    labels: npt.NDArray[np.int64] | None = None


@dataclass
class Pictures:
    """The images of all sources in order, decoded one at a time during iteration.

    sources  paths of files and folders, ``-``, cameras, addresses, videos; by default the shipped
             sample of digits; live sources come last
    live     settings of live sources, and folders to watch
    classes  names of the model's classes, to interpret class folders and label files
    labels   file of labels by position or file name; without it, class folders give the labels

    Results of the iteration:

    skipped        a line for every unreadable file
    scaled, notes  counts of images that had to be scaled or otherwise adapted
    expected       number of images, as far as known from the sources opened so far
    unchanged      number of live pictures skipped because they hardly differed
    dropped        number of live pictures that were not taken in time
    """

    sources: Sequence[str]
    shape: Shape
    steps: Preprocessing
    classes: Sequence[str] = ()
    labels: Labels | None = None
    live: LiveSettings = NOT_LIVE
    skipped: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    scaled: int = 0
    count: int = 0
    positions: int = 0
    expected: int = 0
    unchanged: int = 0
    _frames: LiveFrames | None = None

    @property
    def in_memory(self) -> bool:
        """Whether the next image is in memory already."""
        return not self.sources and not self.live.watch

    @property
    def dropped(self) -> int:
        """Number of pictures of live sources that were not taken in time."""
        return 0 if self._frames is None else self._frames.dropped

    def close(self) -> None:
        """Stop the live sources; a waiting iteration ends."""
        if self._frames is not None:
            self._frames.close()

    def __iter__(self) -> Iterator[Picture]:
        """Yield every image; ``ImageError`` if a source is missing or the only file is
        unreadable.
        """
        if self.in_memory:
            images, labels = sample_digits()
            self._check_labels(len(images))
            self.expected += len(images)
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield self._made(image[:, :, None], f"sample[{index}]", None, int(label))
        live = [source for source in self.sources if is_live(source)]
        others = [source for source in self.sources if source not in live]
        if not live and not self.live.watch:
            for source in others:
                yield from self._from_source(source)
            return
        from device.live.frames import LiveFrames

        with LiveFrames(live, self.steps.colour, self.live) as self._frames:
            for source in others:
                yield from self._from_source(source)
            yield from self._from_live(self._frames)

    def _from_source(self, source: str) -> Iterator[Picture]:
        path = Path(source)
        if not _is_folder(path):
            self.expected += not is_array(path)
            yield from self._from_entry(Entry(path), alone=len(self.sources) == 1)
            return
        entries = list(walk(path))
        if not entries:
            raise ImageError(f"--input: folder {source} has no image files")
        if not any(is_array(entry.path) for entry in entries):
            self._check_labels(len(entries))
        self.expected += sum(not is_array(entry.path) for entry in entries)
        before, folders = self.count, self._class_folders(path, entries)
        for entry in entries:
            yield from self._from_entry(entry, folders.get(entry.path))
        if self.count == before:
            raise ImageError(
                f"--input: folder {source} has no image that can be read; {self.skipped[-1]}"
            )

    def _check_labels(self, count: int) -> None:
        """Raise ``ImageError`` unless there are ``count`` labels."""
        given = [] if self.labels is None else self.labels.in_order
        if given and len(self.sources) <= 1 and len(given) != count:
            raise ImageError(f"--labels: holds {len(given)} labels; {count} are needed")

    def _class_folders(self, root: Path, entries: Sequence[Entry]) -> dict[Path, int]:
        """Return the class of every file if all are in folders named after classes; else
        nothing.
        """
        if self.labels is not None:
            return {}
        found = {}
        for entry in entries:
            if not entry.problem:
                label = class_number(entry.path.parent.name, self.classes)
                if entry.path.parent == root or label is None:
                    return {}
                found[entry.path] = label
        return found

    def _from_entry(
        self, entry: Entry, label: int | None = None, alone: bool = False
    ) -> Iterator[Picture]:
        name = str(entry.path)
        try:
            if entry.problem:
                raise ImageError(f"--input: {name} {entry.problem}")
            if is_array(entry.path):
                yield from self._from_array(entry.path, label)
            else:
                yield self._prepared(_prepare_file(entry.path, name, self), name, entry.path, label)
        except ImageError as error:
            if alone:
                raise
            self.skipped.append(str(error).removeprefix("--input: "))
            self.positions += 1

    def _from_array(self, path: Path, label: int | None) -> Iterator[Picture]:
        from shared.images.arrays import read_array

        try:
            array = read_array(path, f"--input: {path}", self.shape)
        except ImageError as error:  # errors about IDX files name no flag
            text = str(error)
            raise ImageError(text if text.startswith("--input") else f"--input: {text}") from None
        if str(path) in self.sources:
            self._check_labels(len(array))
        self.expected += len(array)
        for index, image in enumerate(array):
            self.notes.update(array.notes)
            own = label if array.labels is None else int(array.labels[index])
            yield self._made(image, f"{path}[{index}]", None, own)

    def _from_live(self, frames: LiveFrames) -> Iterator[Picture]:
        from device.images.live_reading import LiveInputs

        inputs = LiveInputs(frames, self.shape, self.steps, self.live.on_change)
        for picture, made in inputs:
            self.unchanged = inputs.unchanged
            if isinstance(made, ImageError):
                self._skip_live(picture, made)
            else:
                path = picture.content if isinstance(picture.content, Path) else None
                yield self._prepared(made, picture.name, path)
        self.unchanged = inputs.unchanged

    def _skip_live(self, picture: LivePicture, error: ImageError) -> None:
        if picture.name == STDIN:  # the first picture, which may be the only one
            raise error
        if len(self.skipped) < MOST_SKIPPED:
            named = "" if isinstance(picture.content, Path) else f"{picture.name}: "
            self.skipped.append(named + str(error).removeprefix("--input: "))
        self.positions += 1

    def _made(self, image: Bytes, name: str, path: Path | None, label: int | None) -> Picture:
        """Prepare an image of an array."""
        ready = unchanged(image, self.shape, self.steps)
        return self._prepared(ready or _prepare_array(image, name, self), name, path, label)

    def _prepared(
        self, ready: Prepared, name: str, path: Path | None = None, label: int | None = None
    ) -> Picture:
        if self.labels is not None:
            label = self.labels.of(self.positions, path, self.classes)
        self.positions += 1
        self.count += 1
        self.scaled += ready.scaled
        self.notes.update(ready.notes)
        return Picture(name, ready.image, label)


def sample_images(shape: Shape) -> ImageSet:
    """Return the shipped sample of MNIST test digits with their labels."""
    return _all(Pictures((), shape, default_preprocessing(shape, "mnist")))


def read_images(source: str, shape: Shape, steps: Preprocessing | None = None) -> ImageSet:
    """Read all images of a file, a folder or standard input (``-``); ``ImageError`` if one fails.

    If ``steps`` is None, the default preprocessing for this shape is used.
    """
    pictures = Pictures((source,), shape, steps or default_preprocessing(shape, ""))
    found = _all(pictures)
    if pictures.skipped:
        raise ImageError(f"--input: {pictures.skipped[0]}")
    return found


def read_labels(path: Path, count: int) -> npt.NDArray[np.int64]:
    """Read labels (count,) as numbers in the order of the images; ``ImageError``."""
    from shared.images.labels import read_labels as read_label_file

    texts = read_label_file(path, f"--labels: {path}").in_order
    if len(texts) != count or not all(text.isdecimal() for text in texts):
        raise ImageError(
            f"--labels: {path} holds {len(texts)} labels in order; {count} whole numbers are needed"
        )
    return np.array([int(text) for text in texts], dtype=np.int64)


def _all(pictures: Pictures) -> ImageSet:
    found = list(pictures)
    labels = [picture.label for picture in found if picture.label is not None]
    return ImageSet(
        np.stack([picture.image for picture in found]),
        tuple(picture.name for picture in found),
        np.array(labels, dtype=np.int64) if len(labels) == len(found) else None,
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise ImageError(f"--input: {path} cannot be read ({error.strerror})") from None


def _prepare_file(path: Path, name: str, pictures: Pictures) -> Prepared:
    try:
        if not path.exists():
            raise ImageError(f"--input: {name} cannot be read (No such file or directory)")
        if not path.is_file():  # reading a pipe would never end
            raise ImageError(f"--input: {name} is not a file")
        if not path.stat().st_size:
            raise ImageError(f"--input: {name} is empty")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ImageError(f"--input: {name} cannot be read ({error.strerror})") from None
    from shared.images.pictures import prepare_file

    return prepare_file(path, f"--input: {name}", pictures.shape, pictures.steps)


def _prepare_array(image: Bytes, name: str, pictures: Pictures) -> Prepared:
    from shared.images.decoding import Decoded
    from shared.images.pictures import prepare

    height, width, channels = image.shape
    alpha = image[:, :, 3] if channels == 4 else None
    decoded = Decoded(np.ascontiguousarray(image[:, :, :3]), alpha, (width, height))
    return prepare(decoded, f"--input: {name}", pictures.shape, pictures.steps)
