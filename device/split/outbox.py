"""Use the spool: commit samples in groups, and send those that have no answer yet."""

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

BATCH = 64  # samples per request when the spool is being emptied
LOOK_EVERY_S = 1.0
P = ParamSpec("P")
T = TypeVar("T")
# Errors of the server as a whole, which are not caused by a sample.
ABSENCES = (LinkError, OverloadedError, UnavailableError, LateError, UnauthenticatedError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LateAnswer:
    """The cloud's answer to a sample that waited in the spool.

    number      number of the sample in the spool, as in ``SampleResult.number``
    taken_at    time at which the sample was spooled, in seconds since 1970
    confidence  probability of the label, if the server sent it
    answered    whether the device has answered the sample itself while the cloud was away
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
    """Keeps samples in ``spool`` and sends those for which no caller is waiting.

    ``on_late`` receives each of their answers after its confirmation has been committed. ``renew``
    recomputes a sample with the version of its model that is in use; it returns None if that is not
    possible or not needed. Use as ``async with``.
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
        self._awaited: set[int] = set()  # samples whose callers are waiting
        self._answered: set[int] = set()  # samples that the device has answered itself
        # Answered samples whose confirmation could not be written.
        self._unwritten: set[int] = set()
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
        """Commit a sample for whose answer the caller waits; returns its number, None if full."""
        stored = self._puts.post(sample)
        try:
            return await asyncio.shield(stored)
        except asyncio.CancelledError:
            stored.add_done_callback(self._abandon)
            raise

    async def confirm(self, number: int) -> None:
        """Commit that the cloud has answered; after that the answer may be returned to the user."""
        await asyncio.shield(self._confirms.post([number]))
        self._awaited.discard(number)

    def leave(self, number: int, answered: bool) -> None:
        """Send this sample later, since its caller no longer waits.

        ``answered`` tells whether the device has answered it. This is stored with the sample, so
        that its answer is counted exactly once, even if another process sends it.
        """
        if answered:
            self._answered.add(number)
            self._marks.post(number)
        self._awaited.discard(number)
        self._wake.set()

    def try_again(self) -> None:
        """Send temporarily refused samples at once, as another version of the model is in use."""
        self._deferrals.clear()
        self._wake.set()

    async def waiting(self) -> int:
        """Return the number of waiting samples."""
        return await self._run(self._spool.waiting)

    async def empty(self, limit_s: float) -> int:
        """Wait until no sample waits, at most ``limit_s``; return how many are left."""
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

        They are marked as awaited here, before the drainer can read them on the same thread.
        """
        numbers = self._spool.put(samples)
        self._awaited.update(number for number in numbers if number is not None)
        return numbers

    def _confirm_group(self, groups: Sequence[list[int]]) -> list[None]:
        """Commit confirmations, on the spool's thread; failed ones are retried later."""
        numbers = [*self._unwritten, *(number for group in groups for number in group)]
        try:
            self._spool.confirm(numbers)
        except OSError as error:
            # Remember them, so that they are not sent again, and try to commit them later.
            self._unwritten.update(numbers)
            _log.warning("%s", error)
        else:
            self._unwritten.clear()
        return [None] * len(groups)

    def _mark_group(self, numbers: Sequence[int]) -> list[None]:
        """Commit, on the spool's thread, that the device has answered samples."""
        try:
            self._spool.mark_answered(numbers)
        except OSError as error:  # only this process knows it then
            _log.warning("%s", error)
        return [None] * len(numbers)

    def _abandon(self, stored: asyncio.Future[int | None]) -> None:
        number = None if stored.cancelled() or stored.exception() else stored.result()
        if number is not None:
            self.leave(number, answered=False)

    async def _drain(self) -> None:
        """Send waiting samples, oldest first, until the client is closed."""
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
                self._idle.set()  # wakes up ``empty``
            self._wake.clear()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _unattended(self) -> list[Sample]:
        """Return the oldest samples for which no caller is waiting."""
        now_s = asyncio.get_running_loop().time()
        without = self._deferrals.waiting(now_s) | self._awaited | self._unwritten
        found = await self._run(self._spool.oldest, BATCH, without)
        # Samples that were added meanwhile have a waiting caller.
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
            if len(samples) > 1:  # find the one that causes the error
                for sample in samples:
                    await self._send([sample])
                return
            await self._refused(first, error)
            return
        except RequestError as error:  # e.g. the server has another model or version
            for sample in samples:
                await self._recomputed(sample, error)
            return
        if len(response.answers) != len(samples):
            raise LinkError("server: its answer does not fit the model")
        committed = self._confirms.post([sample.id for sample in samples])
        # By a callback, so that deleted samples are handed out even if this task is cancelled.
        committed.add_done_callback(lambda done: self._deliver_answers(done, samples, response))
        await asyncio.shield(committed)

    def _deliver_answers(
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

    async def _recomputed(self, sample: Sample, error: RequestError) -> None:
        """Replace a sample's bits by those of the version in use, if the server requires it."""
        other = self._renew(sample) if isinstance(error, VersionMismatchError) else None
        if other is None:
            await self._refused(sample, error)
        else:
            await self._run(self._spool.change, other)

    async def _refused(self, sample: Sample, error: RequestError) -> None:
        """Set a sample aside if it can never be answered, else try it again later.

        A version that the server does not have may be served later, e.g. during a roll-out.
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
