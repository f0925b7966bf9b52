"""A cache of the last minute's answers, so that a repeated request is not computed twice.

MQTT delivers at least once, and a device that has received no answer repeats its request.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

MOST = 4096
FOR_S = 60.0


class RecentAnswers:
    """Keeps at most ``MOST`` answers, finished or in progress, for ``FOR_S`` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, asyncio.Task[bytes]]] = OrderedDict()

    async def answer(
        self, request: tuple[str, bytes], work: Callable[[], Coroutine[Any, Any, bytes]]
    ) -> bytes:
        """Return the answer to ``request`` (topic, payload), calling ``work`` if it is not cached.

        A failure of ``work`` is raised and not cached. ``work`` continues when the caller is
        cancelled, so that the repeated request finds its answer.
        """
        topic, payload = request
        key = hashlib.blake2b(topic.encode() + b"\0" + payload, digest_size=16).digest()
        self._forget()
        known = self._answers.get(key)
        if known is None:
            task = asyncio.create_task(work(), name="mqtt answer")
            self._answers[key] = (self._clock() + FOR_S, task)
            task.add_done_callback(lambda done: self._forget_failure(key, done))
        else:
            task = known[1]
        return await asyncio.shield(task)

    def _forget(self) -> None:
        now_s = self._clock()
        while self._answers:
            until_s, _ = next(iter(self._answers.values()))
            if until_s > now_s and len(self._answers) < MOST:
                return
            self._answers.popitem(last=False)

    def _forget_failure(self, key: bytes, task: asyncio.Task[bytes]) -> None:
        if not task.cancelled() and task.exception() is None:
            return
        known = self._answers.get(key)
        if known is not None and known[1] is task:
            del self._answers[key]
