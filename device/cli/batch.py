"""Classify many images with one client, for ``python -m device.client``."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from device.cli.flags import CommandLine
from device.cli.tally import Summary, Tally
from device.images.reading import Picture, Pictures
from device.split.client import SplitClient
from device.split.sample import SampleResult
from shared.command import first_of, say
from shared.errors import SpooledError, TaperError
from shared.model.bundle import Bundle

if TYPE_CHECKING:
    from device.cli.publishing import Publisher

STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Run:
    """The input of a run and its results.

    line           the command line
    on_result      receives every answer and the name of its image
    results        answers in the order of their arrival, kept only if ``prints_at_end``
    names          names of all images that were read, kept likewise
    tally          totals of all answers
    unlabelled     images without a label in a run with ``--labels``
    failure        the error that ended the run
    spooled        samples without an answer that wait in the spool
    late           number of answers to samples from the spool
    waiting        samples in the spool at the end
    refused_looks  servers' requests for second looks that were refused, by reason
    signal         the signal that ended the run early, 0 for none
    """

    client: SplitClient
    line: CommandLine
    on_result: Sequence[Callable[[SampleResult, str], None]] = ()
    publisher: Publisher | None = None
    results: list[SampleResult] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    read: int = 0
    unlabelled: int = 0
    failure: TaperError | None = None
    spooled: int = 0
    late: int = 0
    waiting: int = 0
    refused_looks: dict[str, int] = field(default_factory=dict)
    signal: int = 0
    pictures: Pictures = field(init=False)
    ahead: list[Picture] = field(default_factory=list)
    _coming: Iterator[Picture] = field(init=False)

    @property
    def prints_at_end(self) -> bool:
        """Whether the output prints all results at the end of the run."""
        return self.line.output != "jsonl" and not self.line.endless

    def open(self, bundle: Bundle) -> None:
        """Check the input and read its first image, before waiting for a server.

        ``ImageError`` if there is none. Live inputs are only opened.
        """
        meta, line = bundle.metadata, self.line
        path = line.labels
        labels = None
        if path is not None:
            from shared.images.labels import read_labels

            labels = read_labels(path, f"--labels: {path}")
        steps = line.changes.apply(meta.steps)
        shape = meta.architecture.input_shape
        self.pictures = Pictures(line.sources, shape, steps, meta.class_names, labels, line.live)
        self._coming = iter(self.pictures)
        if not line.endless:
            self.ahead.extend(itertools.islice(self._coming, 1))

    @property
    def total(self) -> int:
        """Number of images as far as known: those of a stream arrive one by one."""
        expected = self.pictures.expected if hasattr(self, "pictures") else 0
        return max(expected, self.read)

    def next_picture(self) -> Picture | None:
        """Return the next image; None after the last."""
        return self.ahead.pop() if self.ahead else next(self._coming, None)

    def count(self, picture: Picture) -> int:
        """Count an image that was read; return its number."""
        self.read += 1
        if self.line.labels is not None and picture.label is None:
            self.unlabelled += 1
        if self.prints_at_end:
            self.names.append(picture.name)
        return self.read - 1

    def add(self, picture: Picture, result: SampleResult) -> None:
        """Count an answer and pass it on."""
        self.tally.add(result, picture.label)
        if self.prints_at_end:
            self.results.append(result)
        for receive in self.on_result:
            receive(result, picture.name)

    def summary(self, decisions: Sequence[str]) -> Summary:
        """Return the totals; ``decisions`` are the policy's."""
        passed = (0, 0)
        if hasattr(self, "pictures"):
            passed = (self.pictures.dropped, self.pictures.unchanged)
        return self.tally.summary(
            self.read, self.spooled, self.late, decisions, passed, self.refused_looks
        )

    def close(self) -> None:
        """Stop waiting for pictures."""
        if hasattr(self, "pictures"):
            self.pictures.close()

    def print_notes(self) -> None:
        """Print how images were converted and which could not be read; called once at the end."""
        pictures, count = self.pictures, self.pictures.count
        if pictures.scaled:
            shape = pictures.shape
            size = f"{shape.width}x{shape.height}"
            say(f"note: {pictures.scaled} of {count} images scaled to {size}")
        for note, times in pictures.notes.items():
            say(f"note: {times} of {count} images: {note}")
        if self.unlabelled:
            say(f"note: {self.unlabelled} of {count} images have no label")
        if pictures.unchanged:
            say(f"note: {pictures.unchanged} pictures passed over: they had hardly changed")
        if pictures.dropped:
            say(f"note: {pictures.dropped} pictures dropped: newer ones came before they were used")
        for skipped in pictures.skipped:
            say(f"skipped: {skipped}")


async def classify_until_signal(run: Run) -> None:
    """Run ``classify_all``; SIGINT or SIGTERM ends it orderly, a second one ends the process."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(classify_all(run), name="images")

    def stop(number: int) -> None:
        run.signal = number
        run.close()
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
        # Reports mistakes in the input before waiting for a server.
        run.open(client.bundle)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(client)
        if run.publisher is not None:
            await stack.enter_async_context(run.publisher)
        if not hasattr(run, "pictures"):
            run.open(client.bundle)
        try:
            await _work(run)
        except BaseExceptionGroup as group:
            error = first_of(group)
            if not isinstance(error, TaperError):  # e.g. the output cannot be written
                raise error from None
            run.failure = error
        if run.failure is None:
            run.waiting = await client.drain(run.line.settings.wait_s)
        run.late, run.refused_looks = client.late_answers, client.refused_looks
        if run.failure is None:
            run.failure = await client.link.refused_token()
    if run.failure is None and run.spooled:
        run.failure = SpooledError("the server is away and the model has no exit head")
    if run.failure is None and run.pictures.skipped:
        run.failure = TaperError(f"{len(run.pictures.skipped)} inputs could not be read")


async def _work(run: Run) -> None:
    reading = asyncio.Lock()

    async def take() -> tuple[int, Picture] | None:
        """Return the next image and its number; decodes in a thread, beside requests."""
        async with reading:
            slow = not (run.ahead or run.pictures.in_memory)
            picture = await asyncio.to_thread(run.next_picture) if slow else run.next_picture()
            if picture is None:
                return None
            return run.count(picture), picture

    async def work() -> None:
        while taken := await take():
            index, picture = taken
            try:
                result = await run.client.classify(picture.image, index)
            except SpooledError:
                run.spooled += 1
                continue
            run.add(picture, result)
        # No more samples follow for which the last ones would have to wait.
        run.client.flush()

    async with asyncio.TaskGroup() as group:
        for _ in range(run.line.in_flight):
            group.create_task(work())
