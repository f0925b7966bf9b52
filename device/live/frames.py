"""Read all live sources of a run: a thread for each source, and one bounded queue."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from device.energy.clock import boot_s
from device.live.choosing import Every
from device.live.newest import Newest
from device.live.sources import STDIN, LiveSettings, shown
from shared.errors import ImageError, TaperError

if TYPE_CHECKING:
    from device.live.watching import WatchedFolder
    from shared.images.decoding import Decoded

QUEUE = 2  # pictures that may wait: the next one to classify, and a newer one
AGAIN_S = (0.5, 1.0, 2.0, 5.0, 10.0)  # waits before a lost source is reopened
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LivePicture:
    """A picture that has arrived: decoded, or as the bytes or the path of a file."""

    name: str
    content: Decoded | bytes | Path


class LiveFrames:
    """The pictures of ``sources`` and of the folders in ``settings``, as they arrive.

    Pictures of cameras and addresses are dropped if they are not taken in time; those of files,
    folders and standard input wait. Use as ``with``; ``take`` may be called in any thread.
    """

    def __init__(self, sources: Sequence[str], colour: bool, settings: LiveSettings) -> None:
        self._sources = tuple(sources)
        self._colour = colour
        self._settings = settings
        self._queue: Newest[LivePicture] = Newest(QUEUE)
        self._lock = threading.Lock()
        self._running = 0

    @property
    def dropped(self) -> int:
        """Number of pictures that were not taken in time."""
        return self._queue.dropped

    @property
    def ended(self) -> bool:
        """Whether no more pictures will arrive."""
        return self._queue.closed

    def __enter__(self) -> Self:
        """Start reading; ``ImageError`` if a folder cannot be watched."""
        work: list[tuple[str, Callable[[], None]]] = []
        with ExitStack() as stack:  # watch all folders before starting any thread
            for folder in self._settings.watch:
                from device.live.watching import WatchedFolder

                watched = stack.enter_context(WatchedFolder(Path(folder)))
                work.append((folder, partial(self._watch, watched)))
            stack.pop_all()
        for source in self._sources:
            read = self._read_stdin if source == STDIN else self._read_video
            work.append((source, partial(read, source)))
        self._running = len(work)
        for name, call in work:
            thread = threading.Thread(target=self._guarded, args=(call,), daemon=True)
            thread.name = f"live {shown(name)}"
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all sources; waiting calls of ``take`` return None."""
        self._queue.close()

    def take(self, wait_s: float | None = None) -> LivePicture | None:
        """Return the next picture; None after ``wait_s``, or if no more will arrive.

        Raises ``TaperError`` if a source could not be opened.
        """
        return self._queue.take(wait_s)

    def _guarded(self, call: Callable[[], None]) -> None:
        """Read a source to its end by ``call``; the queue ends with the last source or an error."""
        failure: TaperError | None = None
        try:
            call()
        except TaperError as error:
            failure = error
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last or failure is not None:
            self._queue.close(failure)

    def _every(self) -> Every | None:
        period_s = self._settings.every_s
        return None if period_s is None else Every(period_s)

    def _read_video(self, source: str) -> None:
        """Read frames of a camera, an address or a file; a lost source is reopened."""
        from device.live.video import Video

        name, patient = shown(source), self._settings.patient
        video = Video(source, self._colour, self._every())
        before, failures = 0, 0
        while True:
            number, error = -1, None
            try:
                for number, picture in video.frames():
                    put = self._queue.put if video.finite else self._queue.put_newest
                    if not put(LivePicture(f"{name}[{before + number}]", picture)):
                        return
            except ImageError as failed:
                error = failed
            before += number + 1
            if error is None and video.finite and not patient:
                return
            lost = error or ImageError(f"--input: {name} has ended")
            if not patient and (video.finite or not before):
                raise lost
            if not failures or number >= 0:
                _log.warning("%s; opened again", str(lost).removeprefix("--input: "))
            failures = 0 if number >= 0 else failures + 1
            if self._queue.wait_closed(AGAIN_S[min(failures, len(AGAIN_S) - 1)]):
                return

    def _watch(self, watched: WatchedFolder) -> None:
        """Read the files that appear in a folder."""
        every = self._every()
        with watched:
            for path in watched.paths():
                if self._queue.closed:
                    return
                if path is not None and (every is None or every.wants(boot_s())):
                    self._queue.put(LivePicture(str(path), path))
        raise ImageError(f"--watch: {watched.folder} is gone")

    def _read_stdin(self, source: str) -> None:
        """Read consecutive pictures from standard input."""
        from shared.images.streams import pictures_in

        every, number = self._every(), 0
        for number, data in enumerate(pictures_in(_read_stdin), 1):
            name = source if number == 1 else f"{source}[{number}]"
            wanted = every is None or every.wants(boot_s())
            if wanted and not self._queue.put(LivePicture(name, data)):
                return
        if not number:
            raise ImageError("--input: standard input is empty")


def _read_stdin(size: int) -> bytes:
    """Return at most ``size`` bytes from standard input; waits for at least one."""
    return os.read(sys.stdin.fileno(), size)
