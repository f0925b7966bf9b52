"""Follow a model: ask the server for other versions and switch to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from device.split.model_store import ModelStore
from shared.errors import LinkError, RequestError
from shared.model.bundle import Bundle

RETRY_S = 1.0
_log = logging.getLogger(__name__)


class ModelFollower:
    """Passes each new version of the model in ``store`` to ``switch``. Use as ``async with``.

    ``current`` returns the version in use. The server is asked every ``every_s`` seconds, and
    immediately after ``check_now``.
    """

    def __init__(
        self,
        store: ModelStore,
        current: Callable[[], str],
        switch: Callable[[Bundle], None],
        every_s: float,
    ) -> None:
        self._store = store
        self._current = current
        self._switch = switch
        self._every_s = every_s
        self._hurry = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name="model follower")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def check_now(self) -> None:
        """Ask the server now, because it has refused the version in use."""
        self._hurry.set()

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            try:
                bundle = await self._store.newer(self._current())
            except (LinkError, RequestError) as error:
                _log.info("no news of the model: %s", error)
                await asyncio.sleep(min(self._every_s, RETRY_S))
                continue
            if bundle is not None:
                self._switch(bundle)
