"""Group commit: jobs that arrive during a transaction share the next transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from shared.errors import TaperError

Job = TypeVar("Job")
Result = TypeVar("Result")


class GroupCommit(Generic[Job, Result]):
    """Passes jobs to ``commit`` in groups, in the order in which they were posted.

    ``commit`` runs on ``thread``, takes all jobs that have gathered and returns a result for each.
    If it raises an error of the disk, the database or taper's own tree, all jobs of the group fail
    with that error, and the next group is tried as usual.
    """

    def __init__(
        self, commit: Callable[[Sequence[Job]], Sequence[Result]], thread: Executor
    ) -> None:
        self._commit = commit
        self._thread = thread
        self._gathered: list[tuple[Job, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    def post(self, job: Job) -> asyncio.Future[Result]:
        """Add a job; the returned future has its result, and need not be awaited."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._gathered.append((job, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="group commit")
        return future

    async def settle(self) -> None:
        """Wait until all posted jobs are committed or have failed."""
        while self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._gathered:
                group, self._gathered = self._gathered, []
                jobs = [job for job, _ in group]
                try:
                    results = await loop.run_in_executor(self._thread, self._commit, jobs)
                except asyncio.CancelledError:  # the event loop is closing
                    for _, future in [*group, *self._gathered]:
                        future.cancel()
                    raise
                except (OSError, sqlite3.Error, TaperError) as error:
                    for _, future in group:
                        if not future.done():
                            future.set_exception(error)
                            # Marks it as retrieved, as nobody may wait for the job.
                            future.exception()
                else:
                    for (_, future), result in zip(group, results, strict=True):
                        if not future.done():
                            future.set_result(result)
        finally:
            self._task = None
