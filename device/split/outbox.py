"""The spool at work: commits in groups on a thread of its own, and sending what waits."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from device.split.spool import Sample, Spool
from device.transport.backoff import Backoff
from device.transport.link import Identity, Link
from shared.errors import LinkError, OverloadedError, RequestError
from shared.protocol.codec import Encoding, Frame
from shared.protocol.messages import Answer, Response

BATCH = 64  # samples of one request while the spool empties
LOOK_EVERY_S = 1.0
P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LateAnswer:
    """The cloud's answer to a sample that had waited in the spool."""

    number: int
    model: str
    version: str
    fraction_level: int
    label: int
    cloud_level: int
    taken_at: float


class Outbox:
    """Keeps samples in ``spool`` and sends those whose answer nobody waits for any more.

    ``on_late`` is told every answer after its confirmation was committed. Use as ``async with``.
    """

    def __init__(
        self, spool: Spool, link: Link, on_late: Callable[[LateAnswer], None] | None = None
    ) -> None:
        self._spool = spool
        self._link = link
        self._on_late = on_late
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._puts: list[tuple[Sample, asyncio.Future[int | None]]] = []
        self._confirms: list[tuple[list[int], asyncio.Future[None]]] = []
        self._commits: asyncio.Task[None] | None = None
        self._live: set[int] = set()  # somebody waits for these
        self._confirmed: set[int] = set()  # answered, but their commit failed
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self.late_answers = 0

    async def __aenter__(self) -> Self:
        self._drainer = asyncio.create_task(self._drain(), name="spool drainer")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drainer.cancel()
        await asyncio.gather(self._drainer, return_exceptions=True)
        while self._commits is not None:
            await asyncio.gather(self._commits, return_exceptions=True)
        self._thread.shutdown()
        self._spool.close()

    async def put(self, model: str, version: str, level: int, bits: bytes) -> int | None:
        """Commit a sample that somebody waits for; its number, or None if there is no room."""
        sample = Sample(model, version, level, bits)
        stored: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._puts.append((sample, stored))
        self._start_commits()
        return await stored

    async def confirm(self, number: int) -> None:
        """Commit that the cloud has answered; afterwards the answer may be handed out."""
        await self._confirm([number])
        self._live.discard(number)

    def leave(self, number: int) -> None:
        """Nobody waits for this sample any more: it goes to the cloud when that is back."""
        self._live.discard(number)
        self._wake.set()

    async def waiting(self) -> int:
        """How many samples wait."""
        return await self._run(self._spool.waiting)

    async def empty(self, limit_s: float) -> int:
        """Wait until nothing waits, at most ``limit_s``; how many samples are left."""
        try:
            async with asyncio.timeout(limit_s):
                while await self.waiting():
                    self._idle.clear()
                    self._wake.set()
                    await self._idle.wait()
        except TimeoutError:
            pass
        return await self.waiting()

    async def _confirm(self, numbers: list[int]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirms.append((numbers, done))
        self._start_commits()
        await done

    def _start_commits(self) -> None:
        if self._commits is None:
            self._commits = asyncio.create_task(self._commit(), name="spool commits")

    async def _commit(self) -> None:
        """One transaction after the other, each with all that has come up meanwhile."""
        try:
            while self._puts or self._confirms:
                puts, self._puts = self._puts, []
                confirms, self._confirms = self._confirms, []
                if confirms:
                    numbers = [*self._confirmed, *(n for group, _ in confirms for n in group)]
                    try:
                        await self._run(self._spool.confirm, numbers)
                        self._confirmed.clear()
                    except OSError as error:
                        # This process will not send them again; a later commit may go through.
                        self._confirmed.update(numbers)
                        _log.warning("%s", error)
                    for _, done in confirms:
                        _settle(done, None)
                if puts:
                    stored = await self._run(self._spool.put, [sample for sample, _ in puts])
                    for (_, future), number in zip(puts, stored, strict=True):
                        if number is not None and not future.cancelled():
                            self._live.add(number)
                        _settle(future, number)
        finally:
            self._commits = None

    async def _drain(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while True:
            without = frozenset(self._live | self._confirmed)
            found = await self._run(self._spool.oldest, BATCH, without)
            # Meanwhile somebody may have come to wait for one of them.
            samples = [sample for sample in found if sample.id not in self._live]
            if not samples:
                self._idle.set()
            if not samples or self._link.away:
                self._wake.clear()
                try:
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                continue
            try:
                await self._send(samples)
                backoff.reset()
            except (LinkError, OverloadedError):
                await asyncio.sleep(backoff.next_s())

    async def _send(self, samples: list[Sample]) -> None:
        first = samples[0]
        bits = b"".join(sample.bits for sample in samples)
        frame = Frame(first.level, len(samples), Encoding.RAW, bits)
        identity = Identity(first.model, first.version)
        try:
            response = await self._link.infer(frame, 0, identity, stop_when_away=True)
        except OverloadedError:
            raise
        except RequestError as error:
            if len(samples) > 1:  # one of them may be the culprit
                for sample in samples:
                    await self._send([sample])
                return
            _log.warning("spool: sample %d is refused and set aside (%s)", first.id, error)
            await self._run(self._spool.refuse, first.id, str(error))
            return
        if len(response.answers) != len(samples):
            raise LinkError("server: its answer does not fit the model")
        await self._confirm([sample.id for sample in samples])
        for sample, answer in zip(samples, response.answers, strict=True):
            self.late_answers += 1
            if self._on_late:
                self._on_late(_late(sample, answer, response))

    async def _run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call ``function`` on the spool's thread."""
        call = functools.partial(function, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _late(sample: Sample, answer: Answer, response: Response) -> LateAnswer:
    return LateAnswer(
        number=sample.id,
        model=sample.model,
        version=sample.version,
        fraction_level=sample.level,
        label=answer.label,
        cloud_level=response.cloud_level,
        taken_at=sample.taken_at,
    )


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
