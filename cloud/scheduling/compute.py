"""The thread that computes: one batch at a time, outside the event loop, GIL released."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

Job = Callable[[], object]


class ComputeThread:
    """Runs jobs one after the other. Use as ``with``, inside a running event loop.

    A hop to a ``ThreadPoolExecutor`` and back costs several times as much.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Job, Callable[[], object]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._jobs.put(None)
        self._thread.join()

    def run(self, job: Job, then: Callable[[], object]) -> None:
        """Run ``job``, which must not raise, in the thread, and ``then`` in the event loop."""
        self._jobs.put((job, then))

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, then = entry
            job()
            try:
                self._loop.call_soon_threadsafe(then)
            except RuntimeError:  # the loop was closed while the job ran
                return
