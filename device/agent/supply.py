"""The sources of an agent's pictures: arrays or files in a loop, or live sources."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from device.images.reading import Picture, Pictures, read_images, read_labels, sample_images
from device.live.sources import LiveSettings, is_live
from shared.errors import ImageError, TaperError
from shared.images.labels import Labels
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing

if TYPE_CHECKING:
    from device.images.live_reading import LiveInputs
    from device.live.frames import LiveFrames

PATIENT = LiveSettings(patient=True)
LIVE_WAIT_S = 1.0  # longest wait for a picture of a live source
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """An image (H, W, C) uint8 to classify, and its class if that is known."""

    image: npt.NDArray[np.uint8]
    label: int | None = None


class Supply(Protocol):
    """Provides pictures while the agent runs; ``problem`` is why there is none, or empty."""

    problem: str

    async def take(self) -> Sample | None:
        """Return the next picture; None if there is none now."""

    def close(self) -> None:
        """Stop taking pictures."""


@dataclass
class ArraySupply:
    """Images (N, H, W, C) uint8 in an endless loop, and their labels if known."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None = None
    first: int = 0  # index of the first image
    problem: str = ""

    async def take(self) -> Sample | None:
        """Return the next image."""
        place = self.first % len(self.images)
        self.first += 1
        return Sample(self.images[place], None if self.labels is None else int(self.labels[place]))

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Wanted:
    """The pictures that an agent takes, and how they become inputs of which classes."""

    sources: tuple[str, ...]
    shape: Shape
    steps: Preprocessing
    classes: tuple[str, ...] = ()
    labels: Labels | None = None
    live: LiveSettings = PATIENT


class FileSupply:
    """The files and folders of ``wanted`` in an endless loop, decoded one at a time.

    Each round uses the files that exist then. Unreadable files are logged once.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._coming: Iterator[Picture] = iter(())
        self._pictures: Pictures | None = None
        self._named: set[str] = set()
        self.problem = ""

    async def take(self) -> Sample | None:
        """Return the next picture; None if a whole round has no readable one."""
        picture = await asyncio.to_thread(self._next)
        return None if picture is None else Sample(picture.image, picture.label)

    def close(self) -> None:
        """Do nothing."""

    def _next(self) -> Picture | None:
        for _ in range(2):  # the rest of this round, then a new one
            try:
                picture = next(self._coming, None)
            except ImageError as error:
                picture, self.problem = None, str(error)
                self._name(self.problem)
            if self._pictures is not None:
                for line in self._pictures.skipped:
                    self._name(f"skipped: {line}")
                self._pictures.skipped.clear()
            if picture is not None:
                self.problem = ""
                return picture
            want = self._wanted
            self._pictures = Pictures(
                want.sources, want.shape, want.steps, want.classes, want.labels
            )
            self._coming = iter(self._pictures)
        return None

    def _name(self, line: str) -> None:
        if line not in self._named and len(self._named) < 1000:
            self._named.add(line)
            _log.warning("%s", line)


class LiveSupply:
    """Pictures of the cameras, streams, videos and watched folders of ``wanted``, as they
    arrive.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._frames: LiveFrames | None = None
        self._inputs: LiveInputs | None = None
        self._said = ""
        self.problem = ""

    async def take(self) -> Sample | None:
        """Return the oldest waiting picture; None if none arrives within ``LIVE_WAIT_S``."""
        return await asyncio.to_thread(self._next)

    def close(self) -> None:
        """End all sources."""
        if self._frames is not None:
            self._frames.close()

    def _next(self) -> Sample | None:
        try:
            frames, inputs = self._opened()
            picture = frames.take(LIVE_WAIT_S)
            made = None if picture is None else inputs.made(picture)
        except TaperError as error:  # e.g. a watched folder that does not exist
            made = ImageError(str(error))
        if isinstance(made, ImageError):
            self.problem = str(made)
            if self.problem != self._said:
                _log.warning("%s", self.problem)
                self._said = self.problem
            return None
        return None if made is None else Sample(made.image)

    def _opened(self) -> tuple[LiveFrames, LiveInputs]:
        from device.images.live_reading import LiveInputs
        from device.live.frames import LiveFrames

        want = self._wanted
        if self._frames is None or self._inputs is None or self._frames.ended:
            live = LiveFrames(want.sources, want.steps.colour, want.live)
            self._frames = live.__enter__()
            self._inputs = LiveInputs(live, want.shape, want.steps, want.live.on_change)
        self.problem = ""
        return self._frames, self._inputs


def supply_for(wanted: Wanted) -> Supply:
    """Return the supply for the sources of ``wanted``; without any, of the shipped digits."""
    live = [is_live(source) for source in wanted.sources]
    if any(live) or wanted.live.watch:
        if not all(live):
            raise ImageError("--input: files cannot be mixed with live sources here")
        return LiveSupply(wanted)
    if wanted.sources:
        return FileSupply(wanted)
    return read_arrays(None, None, wanted.shape)


def read_arrays(source: str | None, labels: Path | None, shape: Shape) -> ArraySupply:
    """Read all images of ``source``, by default the shipped digits with their labels."""
    if source is None:
        sample = sample_images(shape)
        return ArraySupply(sample.images, sample.labels)
    images = read_images(source, shape)
    known = None if labels is None else read_labels(labels, len(images.names))
    return ArraySupply(images.images, known)


def check(sources: Sequence[str]) -> None:
    """Raise ``ImageError`` for a file or folder that does not exist."""
    for source in sources:
        if not is_live(source) and not Path(source).exists():
            raise ImageError(f"--input: {source} cannot be read (No such file or directory)")
