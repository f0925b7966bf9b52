"""Group commit: grouping, order, failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from device.split.group_commit import GroupCommit


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=1) as executor:
        yield executor


async def test_jobs_that_come_during_a_commit_share_the_next(thread: ThreadPoolExecutor) -> None:
    groups: list[list[int]] = []
    begun, go = threading.Event(), threading.Event()

    def commit(jobs: Sequence[int]) -> list[int]:
        groups.append(list(jobs))
        begun.set()
        go.wait()
        return [10 * job for job in jobs]

    commits = GroupCommit(commit, thread)
    first = commits.post(1)
    await asyncio.to_thread(begun.wait)
    later = [commits.post(number) for number in (2, 3, 4)]
    go.set()
    assert await asyncio.gather(first, *later) == [10, 20, 30, 40]
    assert groups == [[1], [2, 3, 4]]


def failing_first(error: Exception) -> Callable[[Sequence[int]], Sequence[int]]:
    left = [error]

    def commit(jobs: Sequence[int]) -> Sequence[int]:
        if left:
            raise left.pop()
        return jobs

    return commit


async def test_a_group_that_fails_gets_the_error_and_the_next_is_tried(
    thread: ThreadPoolExecutor,
) -> None:
    commits = GroupCommit(failing_first(OSError("disk full")), thread)
    failed = [commits.post(1), commits.post(2)]
    await commits.settle()
    for future in failed:
        with pytest.raises(OSError, match="disk full"):
            await future
    assert await commits.post(3) == 3


async def test_nobody_need_wait_for_a_job_that_fails(thread: ThreadPoolExecutor) -> None:
    commits = GroupCommit(failing_first(OSError("disk full")), thread)
    commits.post(1)  # an exception that nobody retrieves would be an error of this test
    await commits.settle()


async def test_a_caller_that_gives_up_does_not_disturb_the_group(
    thread: ThreadPoolExecutor,
) -> None:
    commits: GroupCommit[int, int] = GroupCommit(lambda jobs: jobs, thread)
    given_up, other = commits.post(1), commits.post(2)
    given_up.cancel()
    assert await other == 2
