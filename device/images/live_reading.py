"""Prepare the pictures of live sources as inputs of the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from device.live.choosing import Changes
from device.live.frames import LiveFrames, LivePicture
from device.live.sources import STDIN
from shared.errors import ImageError
from shared.images.pictures import decode_for, prepare
from shared.images.ready import Prepared
from shared.model.architecture import Shape
from shared.model.preprocessing import Preprocessing

Made = tuple[LivePicture, Prepared | ImageError]


class LiveInputs:
    """Prepares pictures of ``frames`` as inputs of ``shape``; ``unchanged`` counts skipped ones.

    With ``on_change``, pictures that hardly differ from the last one are skipped.
    """

    def __init__(
        self, frames: LiveFrames, shape: Shape, steps: Preprocessing, on_change: bool
    ) -> None:
        self._frames = frames
        self._shape = shape
        self._steps = steps
        self._changes = Changes() if on_change else None
        self.unchanged = 0

    def __iter__(self) -> Iterator[Made]:
        """Yield every picture, or the reason why it cannot be read, until the sources end."""
        while (picture := self._frames.take()) is not None:
            made = self.made(picture)
            if made is not None:
                yield picture, made

    def made(self, picture: LivePicture) -> Prepared | ImageError | None:
        """Return the input, an error if the picture is unreadable, or None if it is skipped."""
        name = "standard input" if picture.name.startswith(STDIN) else picture.name
        name, content = f"--input: {name}", picture.content
        try:
            if isinstance(content, bytes | Path):
                content = decode_for(content, name, self._shape, self._steps)
            if self._changes is not None and not self._changes.wants(content.colour):
                self.unchanged += 1
                return None
            return prepare(content, name, self._shape, self._steps)
        except ImageError as error:
            return error
