"""The dashboard's audit trail: every change is recorded before it is made."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection, Engine

from cloud.telemetry import trail
from cloud.telemetry.database import open_writing, translated
from cloud.telemetry.trail import ChangeRecord

SHOWN = 100
R = TypeVar("R")


class AuditTrail:
    """The changes of ``fleet``, kept in the store at ``url``; in memory only if that is None.

    Methods raise ``StoreError`` if the store cannot be written.
    """

    def __init__(self, url: str | None, fleet: str) -> None:
        self.kept = url is not None
        self._url = url
        self._fleet = fleet
        self._engine: Engine | None = None
        self._lock = asyncio.Lock()
        self._changes: deque[ChangeRecord] = deque(maxlen=SHOWN)

    @property
    def changes(self) -> list[ChangeRecord]:
        """The last changes, the latest first."""
        return list(self._changes)

    async def open(self) -> None:
        """Read the last changes from the store."""
        if self._url is not None:
            found = await self._do(lambda one: trail.recent(one, self._fleet, SHOWN))
            self._changes.extend(found)

    async def begin(self, who: str, target: str, what: str) -> ChangeRecord:
        """Record a change that is about to be made: ``who`` sets ``what`` of ``target``."""
        change = ChangeRecord(
            self._fleet, time.time(), secrets.token_hex(8), who, target, what, "asked"
        )
        if self._url is not None:
            await self._do(lambda one: trail.add(one, change))
        self._changes.appendleft(change)
        return change

    def note(self, change: ChangeRecord) -> None:
        """Show an event of a device; the recorder stores it."""
        self._changes.appendleft(change)

    async def finish(self, change: ChangeRecord, result: str) -> None:
        """Record the result of a change."""
        done = replace(change, result=result)
        for place, one in enumerate(self._changes):
            if one.id == change.id:
                self._changes[place] = done
        if self._url is not None:
            await self._do(lambda one: trail.finish(one, done))

    async def _do(self, work: Callable[[Connection], R]) -> R:
        async with self._lock:
            return await asyncio.to_thread(self._in_transaction, work)

    def _in_transaction(self, work: Callable[[Connection], R]) -> R:
        if self._engine is None:
            self._engine = open_writing(self._url or "")
        with translated(self._engine.url), self._engine.begin() as connection:
            return work(connection)

    def close(self) -> None:
        """Close the store."""
        if self._engine is not None:
            self._engine.dispose()
