"""The client for code without an event loop: a ``SplitClient`` on its own thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from device.split.client import SplitClient
from device.split.sample import SampleResult
from device.split.settings import ClientSettings
from shared.errors import UsageError

T = TypeVar("T")


class SyncSplitClient:
    """``SplitClient`` with blocking methods and the same arguments. Thread-safe.

    An open client does not survive a fork: in the child process every call raises ``UsageError``.

        with SyncSplitClient(ClientSettings(servers=("edge:50051",))) as client:
            result = client.classify(image)
    """

    def __init__(self, settings: ClientSettings | None = None, **options: Any) -> None:
        self._settings = settings
        self._options = options

    def __enter__(self) -> Self:
        self._process = os.getpid()
        self._ended: Future[None] = Future()
        opened: Future[SplitClient] = Future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="split client")
        self._thread.start()
        try:
            self._client = opened.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._process:
            return  # a forked child does not have the thread
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._ended.result()

    def classify(self, image: npt.NDArray[np.uint8], index: int = 0) -> SampleResult:
        """Classify one image (H, W, C) uint8; see ``SplitClient.classify``."""
        self._check_process()
        return self._call(self._client.classify(image, index))

    def drain(self, limit_s: float) -> int:
        """Wait until the spool is empty, at most ``limit_s``; return how many samples
        still wait.
        """
        self._check_process()
        return self._call(self._client.drain(limit_s))

    @property
    def client(self) -> SplitClient:
        """The asynchronous client, to read its state."""
        return self._client

    def _run(self, opened: Future[SplitClient]) -> None:
        """Run the client's event loop until it ends; called on the thread."""
        try:
            # ``asyncio.run`` also cancels the tasks that gRPC leaves behind.
            asyncio.run(self._live(opened))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            (self._ended if opened.done() else opened).set_exception(error)
        else:
            self._ended.set_result(None)

    async def _live(self, opened: Future[SplitClient]) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        async with SplitClient(self._settings, **self._options) as client:
            opened.set_result(client)
            await self._closing.wait()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _check_process(self) -> None:
        """Raise ``UsageError`` in a forked child, which does not have the client's thread."""
        if os.getpid() != self._process:
            raise UsageError(
                "the client was opened before this process was forked; open one after it"
            )
