"""The thread that computes batches, one at a time; kernels run without the GIL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

Job = Callable[[], object]


class ComputeThread:
    """A thread that runs functions in order; a context manager, entered in a running event loop.

    Used instead of ``ThreadPoolExecutor`` because a round trip takes a fraction of its time.
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

    def run(self, job: Job, on_done: Callable[[], object]) -> None:
        """Call ``job`` in the thread, then ``on_done`` in the event loop. ``job`` never raises."""
        self._jobs.put((job, on_done))

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, on_done = entry
            job()
            try:
                self._loop.call_soon_threadsafe(on_done)
            except RuntimeError:  # the loop was closed while the job ran
                return
