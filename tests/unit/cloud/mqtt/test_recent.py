from __future__ import annotations

import asyncio

import pytest

from cloud.mqtt.recent import FOR_S, MOST, RecentAnswers
from shared.errors import OverloadedError


class Work:
    """Counts how often it was done."""

    def __init__(self) -> None:
        self.done = 0
        self.error: OverloadedError | None = None

    async def __call__(self) -> bytes:
        self.done += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return b"answer %d" % self.done


async def test_the_same_request_is_worked_on_once() -> None:
    recent, work = RecentAnswers(), Work()
    request = ("topic", b"payload")
    found = await asyncio.gather(*(recent.answer(request, work) for _ in range(3)))
    assert found == [b"answer 1"] * 3
    assert await recent.answer(("topic", b"other"), work) == b"answer 2"
    assert await recent.answer(("other", b"payload"), work) == b"answer 3"


async def test_failures_are_forgotten() -> None:
    recent, work = RecentAnswers(), Work()
    work.error = OverloadedError("full")
    with pytest.raises(OverloadedError):
        await recent.answer(("topic", b"payload"), work)
    work.error = None
    assert await recent.answer(("topic", b"payload"), work) == b"answer 2"


async def test_answers_are_forgotten_after_their_time_and_beyond_their_number() -> None:
    now_s = 0.0
    recent, work = RecentAnswers(lambda: now_s), Work()
    await recent.answer(("topic", b"first"), work)
    now_s = FOR_S
    assert await recent.answer(("topic", b"first"), work) == b"answer 2"
    for number in range(MOST):
        await recent.answer(("topic", b"%d" % number), work)
    before = work.done
    await recent.answer(("topic", b"first"), work)
    assert work.done == before + 1


async def test_work_goes_on_when_the_one_who_asked_has_gone() -> None:
    recent, work = RecentAnswers(), Work()
    asking = asyncio.create_task(recent.answer(("topic", b"payload"), work))
    await asyncio.sleep(0)
    asking.cancel()
    assert await recent.answer(("topic", b"payload"), work) == b"answer 1"
