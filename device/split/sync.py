"""The client for code without an event loop: the same, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from device.split.client import SplitClient
from device.split.sample import SampleResult
from device.split.settings import ClientSettings

T = TypeVar("T")


class SyncSplitClient:
    """``SplitClient`` with plain methods; takes the same arguments. Safe for many threads.

    with SyncSplitClient(ClientSettings(servers=("edge:50051",))) as client:
        result = client.classify(image)
    """

    def __init__(self, settings: ClientSettings | None = None, **options: Any) -> None:
        self._settings = settings
        self._options = options

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="split client")
        self._thread.start()
        try:
            self._client = self._call(self._start())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._call(self._client.__aexit__(kind, error, trace))
        finally:
            self._end()

    def classify(self, image: npt.NDArray[np.uint8], index: int = 0) -> SampleResult:
        """Classify one image (H, W, C) uint8; see ``SplitClient.classify``."""
        return self._call(self._client.classify(image, index))

    def drain(self, limit_s: float) -> int:
        """Wait until the spool is empty; how many samples still wait."""
        return self._call(self._client.drain(limit_s))

    @property
    def client(self) -> SplitClient:
        """The client behind this one, for its state."""
        return self._client

    async def _start(self) -> SplitClient:
        # Made here, since its events belong to this thread's loop.
        return await SplitClient(self._settings, **self._options).__aenter__()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
