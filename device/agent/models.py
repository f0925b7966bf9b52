"""Models for agents, fetched by name from the server once for all devices of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from device.split.model_store import ModelStore
from device.split.pipeline import Pipeline
from device.transport.channel import Security
from shared.errors import TaperError
from shared.model.bundle import Bundle


class FleetModels:
    """Fetches models from the server and keeps them for all devices of the process."""

    def __init__(self, folder: Path, servers: Sequence[str], security: Security) -> None:
        self._folder = folder
        self._servers = tuple(servers)
        self._security = security
        self._fetching: dict[str, asyncio.Task[Bundle]] = {}

    async def __call__(self, name: str, stale: str = "") -> Bundle:
        """Return the model ``name``, in a version other than ``stale`` if the server has one.

        ``TaperError`` if it cannot be fetched or does not work on this device.
        """
        task = self._fetching.get(name)
        if task is not None and task.done() and task.result().metadata.version == stale:
            task = None
        if task is None:
            task = asyncio.create_task(self._fetch(name), name=f"model {name}")
            self._fetching[name] = task
        try:
            return await asyncio.shield(task)
        except TaperError:
            self._fetching.pop(name, None)  # the next request tries again
            raise

    async def _fetch(self, name: str) -> Bundle:
        store = ModelStore(self._folder, name, self._servers, self._security, _check)
        return await store.first()


def _check(bundle: Bundle) -> None:
    Pipeline(bundle).check()
