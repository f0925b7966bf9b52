"""Real digits through real clients with a spool, and the book of their answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from device import ClientSettings, SplitClient
from device.split.outbox import LateAnswer
from device.split.settings import ModelSettings, SpoolSettings
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.errors import SpooledError, TaperError
from shared.model.bundle import read_bundle
from tests.support.devices import FRACTION, MODEL, expected

TIMEOUT_S = 3.0  # a silent network is given up after this
EVERY_S = 0.03
DRAIN_S = 60.0


@cache
def cloud_levels() -> tuple[float, ...]:
    """The fractions of the cloud that the model has."""
    return tuple(read_bundle(bundle_path(MODEL)).architecture.cloud_levels)


def pinned(cloud_fraction: float) -> Sequence[int]:
    """The right labels, whatever a server says that it has computed: it was told."""
    return expected()


@dataclass
class Book:
    """The samples of one client: what was asked, and every answer that came, by sample."""

    images: int
    right: Callable[[float], Sequence[int]] = pinned  # labels, by the fraction of the cloud
    asked: int = 0
    waiting: dict[int, int] = field(default_factory=dict)  # number in the spool -> sample
    late: list[LateAnswer] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    failures: list[str] = field(default_factory=list)

    def answered(self, sample: int, label: int, cloud_fraction: float = 1.0) -> None:
        """Book an answer."""
        self.answers[sample] += 1
        self.wrong += label != self.right(cloud_fraction)[sample % self.images]

    def close(self) -> Count:
        """Book the late answers and count. One to a sample that had its answer is a second one."""
        strays = 0
        for answer in self.late:
            if answer.number in self.waiting:
                fraction = cloud_levels()[answer.cloud_level]
                self.answered(self.waiting[answer.number], answer.label, fraction)
            else:
                strays += 1
        several = sum(count - 1 for count in self.answers.values())
        missing = self.asked - len(self.answers)
        return Count(
            self.asked, len(self.late), missing, several + strays, self.wrong, self.failures
        )


@dataclass(frozen=True)
class Count:
    """Samples asked, answered late from the spool, never, more than once, and falsely."""

    asked: int
    late: int
    missing: int
    double: int
    wrong: int
    failures: list[str]

    @property
    def right(self) -> bool:
        """Whether each of many samples has exactly one answer, and the network's."""
        bad = self.missing or self.double or self.wrong or self.failures
        return bool(self.asked) and not bad


def total(counts: Sequence[Count]) -> Count:
    """All clients together."""
    return Count(
        sum(one.asked for one in counts),
        sum(one.late for one in counts),
        sum(one.missing for one in counts),
        sum(one.double for one in counts),
        sum(one.wrong for one in counts),
        [failure for one in counts for failure in one.failures],
    )


async def classify_all(client: SplitClient, book: Book, stop: asyncio.Event) -> None:
    """One digit after the other until ``stop``."""
    images, _ = sample_digits()
    while not stop.is_set():
        sample = book.asked
        book.asked += 1
        index = sample % book.images
        try:
            result = await client.classify(images[index][..., None], index)
            book.answered(sample, result.label, result.cloud_fraction)
        except SpooledError as error:
            if error.number is None:
                book.failures.append(f"spooled without a number: {error}")
            else:
                book.waiting[error.number] = sample
        except TaperError as error:
            book.failures.append(f"{type(error).__name__}: {error}")
        await asyncio.sleep(EVERY_S)


@dataclass
class Clients:
    """Running clients; ``finish`` ends the sampling, empties the spools and counts."""

    books: list[Book]
    _clients: list[SplitClient]
    _tasks: list[asyncio.Task[None]]
    _stop: asyncio.Event

    async def finish(self) -> Count:
        """Stop, wait until every spool is empty, and count."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*(client.drain(DRAIN_S) for client in self._clients))
        return total([book.close() for book in self.books])


@asynccontextmanager
async def clients(
    servers: Sequence[str],
    folder: Path,
    count: int,
    right: Callable[[float], Sequence[int]] = pinned,
) -> AsyncIterator[Clients]:
    """``count`` clients that classify. The first ones know one of ``servers`` each, so that samples
    wait in their spools; the others know all of them, in an order of their own. ``right`` gives the
    right labels where the cloud computes a fraction; by default servers have none but one.
    """
    images, _ = sample_digits()
    books = [Book(len(images), right) for _ in range(count)]
    stop = asyncio.Event()
    made: list[SplitClient] = []
    for place, book in enumerate(books):
        turn = place % len(servers)
        known = 1 if place < len(servers) else len(servers)
        settings = ClientSettings(
            servers=(*servers[turn:], *servers[:turn])[:known],
            model=ModelSettings(name=MODEL),
            fraction=FRACTION,
            use_exit=False,
            timeout_s=TIMEOUT_S,
            spool=SpoolSettings(folder / f"spool-{place}"),
        )
        made.append(SplitClient(settings, on_late=book.late.append))
    async with _all(made):
        tasks = [
            asyncio.create_task(classify_all(client, book, stop))
            for client, book in zip(made, books, strict=True)
        ]
        try:
            yield Clients(books, made, tasks, stop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _all(made: Sequence[SplitClient]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for client in made:
            await stack.enter_async_context(client)
        yield
