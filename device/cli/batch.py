"""Classify many images with one client, as ``python -m device.client`` does."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device.images.reading import Picture, Pictures
from device.split.client import SplitClient
from device.split.sample import SampleResult
from shared.command import first_of
from shared.errors import SpooledError, TaperError
from shared.model.bundle import Bundle
from shared.model.preprocessing import Changes

UNCHANGED = Changes()
STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Run:
    """The input of a run and, afterwards, its results.

    sources  files and folders, none for the shipped sample; ``changes`` of the model's own
             preprocessing
    names    of the images that were read, ``labels`` their true classes where known
    results  in the order in which they arrived
    failure  the error that ended the run
    spooled  samples without an answer that wait in the spool
    late     answers to samples of the spool
    waiting  samples in the spool at the end
    signal   that ended the run early, 0 for none
    """

    client: SplitClient
    sources: Sequence[str]
    labels_path: Path | None
    in_flight: int
    drain_s: float
    on_result: Callable[[SampleResult, str], None] | None
    say: Callable[[str], None]
    changes: Changes = UNCHANGED
    results: list[SampleResult] = field(default_factory=list)
    failure: TaperError | None = None
    spooled: int = 0
    late: int = 0
    waiting: int = 0
    signal: int = 0
    names: list[str] = field(default_factory=list)
    labels: list[int | None] = field(default_factory=list)
    pictures: Pictures = field(init=False)
    ahead: list[Picture] = field(default_factory=list)
    _coming: Iterator[Picture] = field(init=False)

    def open(self, bundle: Bundle) -> None:
        """Check the input and read its first image, before a server is waited for.

        ``ImageError`` if there is none.
        """
        meta, path = bundle.metadata, self.labels_path
        labels = None
        if path is not None:
            from shared.images.labels import read_labels

            labels = read_labels(path, f"--labels: {path}")
        steps = self.changes.apply(meta.steps)
        shape = meta.architecture.input_shape
        self.pictures = Pictures(self.sources, shape, steps, meta.class_names, labels)
        self._coming = iter(self.pictures)
        self.ahead.extend(itertools.islice(self._coming, 1))

    @property
    def total(self) -> int:
        """How many images there are, as far as that is known: those of a stream come one by one."""
        expected = self.pictures.expected if hasattr(self, "pictures") else 0
        return max(expected, len(self.names))

    def next_picture(self) -> Picture | None:
        """The next image, None after the last."""
        return self.ahead.pop() if self.ahead else next(self._coming, None)

    def say_notes(self) -> None:
        """Say once, at the end, what was done to the images, and which could not be read."""
        pictures, count = self.pictures, self.pictures.count
        if pictures.scaled:
            shape = pictures.shape
            size = f"{shape.width}x{shape.height}"
            self.say(f"note: {pictures.scaled} of {count} images scaled to {size}")
        for note, times in pictures.notes.items():
            self.say(f"note: {times} of {count} images: {note}")
        if self.labels_path is not None and None in self.labels:
            self.say(f"note: {self.labels.count(None)} of {count} images have no label")
        for line in pictures.skipped:
            self.say(f"skipped: {line}")


async def classify_until_signal(run: Run) -> None:
    """``classify_all``, ended in order by SIGINT or SIGTERM; a second one ends the process."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(classify_all(run), name="images")

    def stop(number: int) -> None:
        run.signal = number
        work.cancel()
        for each in STOPPING:
            loop.remove_signal_handler(each)

    for number in STOPPING:
        loop.add_signal_handler(number, stop, number)
    try:
        await work
    except asyncio.CancelledError:
        if not run.signal:
            raise


async def classify_all(run: Run) -> None:
    """Classify every picture, at most ``in_flight`` at the same time."""
    client = run.client
    if client.has_model:
        # Mistakes in the input are reported before a server is waited for.
        run.open(client.bundle)
    async with client:
        if not hasattr(run, "pictures"):
            run.open(client.bundle)
        try:
            await _work(run)
        except BaseExceptionGroup as group:
            error = first_of(group)
            if not isinstance(error, TaperError):  # such as an output that cannot be written
                raise error from None
            run.failure = error
        if run.failure is None:
            run.waiting = await client.drain(run.drain_s)
        run.late = client.late_answers
        if run.failure is None:
            run.failure = await client.link.refused_token()
    if run.failure is None and run.spooled:
        run.failure = SpooledError("the server is away and the model has no exit head")
    if run.failure is None and run.pictures.skipped:
        run.failure = TaperError(f"{len(run.pictures.skipped)} inputs could not be read")


async def _work(run: Run) -> None:
    reading = asyncio.Lock()

    async def take() -> tuple[int, Picture] | None:
        """The next image and its number; decoded on a thread, while others are on their way."""
        async with reading:
            slow = not (run.ahead or run.pictures.in_memory)
            picture = await asyncio.to_thread(run.next_picture) if slow else run.next_picture()
            if picture is None:
                return None
            run.names.append(picture.name)
            run.labels.append(picture.label)
            return len(run.names) - 1, picture

    async def work() -> None:
        while taken := await take():
            index, picture = taken
            try:
                result = await run.client.classify(picture.image, index)
            except SpooledError:
                run.spooled += 1
                continue
            run.results.append(result)
            if run.on_result:
                run.on_result(result, picture.name)
        # The last samples need not wait for others.
        run.client.flush()

    async with asyncio.TaskGroup() as group:
        for _ in range(run.in_flight):
            group.create_task(work())
