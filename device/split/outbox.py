"""The spool at work: samples are committed in groups, and those without an answer are sent."""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from device.split.deferrals import Deferrals
from device.split.group_commit import GroupCommit
from device.split.spool import Sample, Spool
from device.transport.backoff import Backoff
from device.transport.link import Link
from shared.errors import (
    InvalidRequestError,
    LateError,
    LinkError,
    OverloadedError,
    RequestError,
    ServerFaultError,
    UnauthenticatedError,
    UnavailableError,
    VersionMismatchError,
)
from shared.model.identity import ModelIdentity
from shared.protocol.codec import Encoding, Frame
from shared.protocol.messages import Answer, Response

BATCH = 64  # samples of one request while the spool empties
LOOK_EVERY_S = 1.0
P = ParamSpec("P")
T = TypeVar("T")
# The server as a whole does not answer now; no sample is to blame.
ABSENCES = (LinkError, OverloadedError, UnavailableError, LateError, UnauthenticatedError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LateAnswer:
    """The cloud's answer to a sample that had waited in the spool.

    number     of the sample in the spool, as in ``SampleResult.number``
    taken_at   when the sample was spooled, in seconds since 1970
    confidence probability of the label, if the server sent it
    answered   whether the device had answered the sample itself when the cloud was away
    """

    number: int
    model: str
    version: str
    fraction_level: int
    label: int
    cloud_level: int
    taken_at: float
    confidence: float | None = None
    answered: bool = False


class Outbox:
    """Keep samples in ``spool`` and send those for whose answer no caller is waiting.

    ``on_late`` receives each of these answers after its confirmation was committed. ``renew`` makes
    a sample anew for the version of its model that is in use now; None if it cannot, or is of that
    version. Use as ``async with``.
    """

    def __init__(
        self,
        spool: Spool,
        link: Link,
        on_late: Callable[[LateAnswer], None] | None = None,
        renew: Callable[[Sample], Sample | None] = lambda _: None,
    ) -> None:
        self._spool = spool
        self._renew = renew
        self._link = link
        self._on_late = on_late
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._puts = GroupCommit(self._put_group, self._thread)
        self._confirms = GroupCommit(self._confirm_group, self._thread)
        self._marks = GroupCommit(self._mark_group, self._thread)
        self._awaited: set[int] = set()  # samples for whose answer a caller is waiting
        self._answered: set[int] = set()  # those that the device has answered meanwhile
        self._unwritten: set[int] = set()  # answered samples whose confirmation failed to commit
        self._deferrals = Deferrals()
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
        for commits in (self._puts, self._confirms, self._marks):
            await commits.settle()
        self._thread.shutdown()
        self._spool.close()

    async def put(self, sample: Sample) -> int | None:
        """Commit a sample whose answer the caller waits for; its number, or None without room."""
        stored = self._puts.post(sample)
        try:
            return await asyncio.shield(stored)
        except asyncio.CancelledError:
            stored.add_done_callback(self._abandon)
            raise

    async def confirm(self, number: int) -> None:
        """Commit that the cloud has answered; afterwards the answer may be handed out."""
        await asyncio.shield(self._confirms.post([number]))
        self._awaited.discard(number)

    def leave(self, number: int, answered: bool) -> None:
        """The caller no longer waits, perhaps ``answered`` by the device: send this sample later.

        That is kept with the sample: who counts answers must not count it twice, or not at all,
        whichever process sends it.
        """
        if answered:
            self._answered.add(number)
            self._marks.post(number)
        self._awaited.discard(number)
        self._wake.set()

    def try_again(self) -> None:
        """Send at once what was refused for now: another version of the model is in use."""
        self._deferrals.clear()
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

    def _put_group(self, samples: Sequence[Sample]) -> list[int | None]:
        """Commit samples, on the spool's thread.

        They count as awaited before the drainer, whose reads run on the same thread, can see them.
        """
        numbers = self._spool.put(samples)
        self._awaited.update(number for number in numbers if number is not None)
        return numbers

    def _confirm_group(self, groups: Sequence[list[int]]) -> list[None]:
        """Commit confirmations, on the spool's thread; those that fail are tried again later."""
        numbers = [*self._unwritten, *(number for group in groups for number in group)]
        try:
            self._spool.confirm(numbers)
        except OSError as error:
            # This process does not send them again, and a later commit may succeed.
            self._unwritten.update(numbers)
            _log.warning("%s", error)
        else:
            self._unwritten.clear()
        return [None] * len(groups)

    def _mark_group(self, numbers: Sequence[int]) -> list[None]:
        """Commit that the device has answered samples, on the spool's thread."""
        try:
            self._spool.mark_answered(numbers)
        except OSError as error:  # this process knows it all the same
            _log.warning("%s", error)
        return [None] * len(numbers)

    def _abandon(self, stored: asyncio.Future[int | None]) -> None:
        number = None if stored.cancelled() or stored.exception() else stored.result()
        if number is not None:
            self.leave(number, answered=False)

    async def _drain(self) -> None:
        """Send what waits, oldest first, for as long as the client lives."""
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                samples = await self._unattended()
                if samples and not self._link.away:
                    await self._send(samples)
                    backoff.reset()
                    continue
            except ABSENCES:
                await asyncio.sleep(backoff.next_s())
                continue
            except (OSError, sqlite3.Error) as error:
                _log.warning("the spool cannot be read or written for now (%s)", error)
                await asyncio.sleep(backoff.next_s())
                continue
            if not samples:
                self._idle.set()  # ``empty`` counts again
            self._wake.clear()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _unattended(self) -> list[Sample]:
        """The oldest samples for whose answer no caller is waiting."""
        now_s = asyncio.get_running_loop().time()
        without = self._deferrals.waiting(now_s) | self._awaited | self._unwritten
        found = await self._run(self._spool.oldest, BATCH, without)
        # Samples that were put meanwhile have a caller.
        return [sample for sample in found if sample.id not in self._awaited]

    async def _send(self, samples: list[Sample]) -> None:
        first = samples[0]
        bits = b"".join(sample.bits for sample in samples)
        frame = Frame(first.level, len(samples), Encoding.RAW, bits)
        identity = ModelIdentity(first.model, first.version)
        try:
            response = await self._link.infer(frame, 1, identity, stop_when_away=True)
        except ABSENCES:
            raise
        except (InvalidRequestError, ServerFaultError) as error:
            if len(samples) > 1:  # one of them may be the culprit
                for sample in samples:
                    await self._send([sample])
                return
            await self._refused(first, error)
            return
        except RequestError as error:  # the server has another model or version
            for sample in samples:
                await self._made_anew(sample, error)
            return
        if len(response.answers) != len(samples):
            raise LinkError("server: its answer does not fit the model")
        committed = self._confirms.post([sample.id for sample in samples])
        # Also if this task is cancelled meanwhile: what is deleted is handed out.
        committed.add_done_callback(lambda done: self._hand_out(done, samples, response))
        await asyncio.shield(committed)

    def _hand_out(
        self, done: asyncio.Future[None], samples: Sequence[Sample], response: Response
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        for sample, answer in zip(samples, response.answers, strict=True):
            self._deferrals.forget(sample.id)
            self.late_answers += 1
            late = _late(sample, answer, response)
            if sample.id in self._answered:
                self._answered.discard(sample.id)
                late = replace(late, answered=True)
            if self._on_late:
                self._on_late(late)

    async def _made_anew(self, sample: Sample, error: RequestError) -> None:
        """Keep the bits of the version in use instead, if the server has another one."""
        other = self._renew(sample) if isinstance(error, VersionMismatchError) else None
        if other is None:
            await self._refused(sample, error)
        else:
            await self._run(self._spool.change, other)

    async def _refused(self, sample: Sample, error: RequestError) -> None:
        """Set a sample aside if it can never be answered, else try it again later.

        A version that the server does not have may come or come back while a model is rolled out.
        """
        now_s = asyncio.get_running_loop().time()
        if not isinstance(error, InvalidRequestError) and self._deferrals.defer(sample.id, now_s):
            return
        self._answered.discard(sample.id)
        _log.warning("spool: sample %d is refused and set aside (%s)", sample.id, error)
        await self._run(self._spool.refuse, sample.id, str(error))

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
        confidence=answer.candidates[0][1] if answer.candidates else None,
        answered=sample.answered,
    )
