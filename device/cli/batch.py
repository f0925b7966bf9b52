"""Classify many images with one client, as ``python -m device.client`` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.images.reading import ImageSet, read_images, read_labels, sample_images
from device.split.client import SplitClient
from device.split.sample import SampleResult
from shared.command import first_of
from shared.errors import SpooledError, TaperError
from shared.model.architecture import Shape


@dataclass
class Run:
    """The input of a run and, afterwards, its results.

    results  in the order in which they arrived
    failure  the error that ended the run
    spooled  samples without an answer that wait in the spool
    late     answers to samples of the spool
    waiting  samples in the spool at the end
    """

    client: SplitClient
    source: str | None
    labels_path: Path | None
    in_flight: int
    drain_s: float
    on_result: Callable[[SampleResult, str], None] | None
    say: Callable[[str], None]
    results: list[SampleResult] = field(default_factory=list)
    failure: TaperError | None = None
    spooled: int = 0
    late: int = 0
    waiting: int = 0
    pictures: ImageSet = field(init=False)
    labels: npt.NDArray[np.int64] | None = None

    def read(self, shape: Shape) -> None:
        """Read images and labels; ``ImageError``."""
        self.pictures = (
            sample_images(shape) if self.source is None else read_images(self.source, shape)
        )
        count = len(self.pictures.names)
        if self.pictures.resized:
            self.say(
                f"note: {self.pictures.resized} of {count} images scaled to "
                f"{shape.width}x{shape.height}"
            )
        path = self.labels_path
        self.labels = self.pictures.labels if path is None else read_labels(path, count)


async def classify_all(run: Run) -> None:
    """Classify every picture, at most ``in_flight`` at the same time."""
    client = run.client
    if client.has_model:
        # Mistakes in the input are reported before a server is waited for.
        run.read(client.bundle.architecture.input_shape)
    async with client:
        if not hasattr(run, "pictures"):
            run.read(client.bundle.architecture.input_shape)
        try:
            await _work(run)
        except* TaperError as group:
            run.failure = first_of(group)
        except* BrokenPipeError:
            raise BrokenPipeError from None  # the reader of the results has gone
        if run.failure is None:
            run.waiting = await client.drain(run.drain_s)
        run.late = client.late_answers
        if run.failure is None:
            run.failure = await client.link.refused_token()
    if run.failure is None and run.spooled:
        run.failure = SpooledError("the server is away and the model has no exit head")


async def _work(run: Run) -> None:
    todo = iter(range(len(run.pictures.names)))

    async def work() -> None:
        for index in todo:
            try:
                result = await run.client.classify(run.pictures.images[index], index)
            except SpooledError:
                run.spooled += 1
                continue
            run.results.append(result)
            if run.on_result:
                run.on_result(result, run.pictures.names[index])
        # The last samples need not wait for others.
        run.client.flush()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(run.in_flight, len(run.pictures.names))):
            group.create_task(work())
