"""Telemetry that a device has numbered, kept in SQLite until the broker has it and a while longer.

One thread writes for all devices of a process and commits what came meanwhile in one transaction.
Numbers and messages are committed before they are sent: after ``kill -9`` a device goes on counting
where it was and sends again what was not confirmed. Confirmed messages stay until ``KEEP`` newer
ones are there, so that a controller can ask for what a dead broker took with it.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from shared.errors import UsageError

KEEP = 200
PRUNE_EVERY = 50
SCHEMA = """
CREATE TABLE IF NOT EXISTS device (
    name TEXT PRIMARY KEY, session INTEGER NOT NULL, next_sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS telemetry (
    device TEXT NOT NULL, sequence INTEGER NOT NULL, payload BLOB NOT NULL,
    confirmed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (device, sequence)
) STRICT, WITHOUT ROWID;
"""
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Entry = tuple[int, bytes]  # sequence number, payload


class Ledger:
    """The numbers and unconfirmed telemetry of the devices of one process, in the file ``path``.

    ``limit`` is how many unconfirmed messages a device may have; the oldest gives way.
    Use as ``async with``. ``UsageError`` if the file cannot be used.
    """

    def __init__(self, path: Path | str, limit: int = 2000) -> None:
        self._path = path
        self._limit = limit
        self._work: queue.SimpleQueue[tuple[Work, asyncio.Future[Any] | None] | None]
        self._work = queue.SimpleQueue()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        try:
            self._database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise UsageError(f"--ledger: {self._path} cannot be used ({error})") from None
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._work.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        self._database.close()

    async def begin(self, device: str) -> tuple[int, int]:
        """Count one more connection; its number, and the sequence number to go on with."""

        def work(database: sqlite3.Connection) -> tuple[int, int]:
            row: tuple[int, int] = database.execute(
                "INSERT INTO device VALUES (?, 1, 1) ON CONFLICT (name) "
                "DO UPDATE SET session = session + 1 RETURNING session, next_sequence",
                (device,),
            ).fetchone()
            return row

        return await self._ask(work)

    async def add(self, device: str, sequence: int, payload: bytes) -> int:
        """Keep a message; returns, once it is committed, how many older ones had to give way."""

        def work(database: sqlite3.Connection) -> int:
            database.execute(
                "INSERT INTO telemetry (device, sequence, payload) VALUES (?, ?, ?)",
                (device, sequence, payload),
            )
            database.execute(
                "INSERT INTO device VALUES (?1, 1, ?2) ON CONFLICT (name) "
                "DO UPDATE SET next_sequence = ?2",
                (device, sequence + 1),
            )
            if sequence % PRUNE_EVERY:
                return 0
            database.execute(
                "DELETE FROM telemetry WHERE device = ? AND sequence < ? AND confirmed",
                (device, sequence - KEEP),
            )
            return database.execute(
                "DELETE FROM telemetry WHERE device = ? AND sequence < ?",
                (device, sequence - self._limit),
            ).rowcount

        return await self._ask(work)

    def confirm(self, device: str, sequence: int) -> None:
        """Note that the broker has a message."""
        self._work.put(
            (
                lambda database: database.execute(
                    "UPDATE telemetry SET confirmed = 1 WHERE device = ? AND sequence = ?",
                    (device, sequence),
                ),
                None,
            )
        )

    async def unconfirmed(self, device: str) -> list[Entry]:
        """What the broker has not confirmed, oldest first."""
        return await self._select("AND NOT confirmed", device)

    async def between(self, device: str, first: int, last: int) -> list[Entry]:
        """What is still here of the sequence numbers ``first`` to ``last``, both in."""
        return await self._select("AND sequence BETWEEN ? AND ?", device, first, last)

    async def _select(self, where: str, *values: str | int) -> list[Entry]:
        text = f"SELECT sequence, payload FROM telemetry WHERE device = ? {where} ORDER BY sequence"  # noqa: S608 - both texts are ours
        return await self._ask(lambda database: database.execute(text, values).fetchall())

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._work.put((work, future))
        return await future

    def _write(self) -> None:
        """Do what is asked, all that waits in one transaction, until ``None`` comes."""
        ended = False
        while not ended:
            jobs = [self._work.get()]
            while not self._work.empty():
                jobs.append(self._work.get())
            ended = None in jobs  # whatever becomes of the others
            done: list[tuple[asyncio.Future[Any], Any]] = []
            failure: Exception | None = None
            try:
                self._database.execute("BEGIN")
                for job in jobs:
                    if job is None:
                        continue
                    value = job[0](self._database)
                    if job[1] is not None:
                        done.append((job[1], value))
                self._database.execute("COMMIT")
            except sqlite3.Error as error:  # a full disk: the callers hear of it, the thread lives
                failure = error
                done = [(job[1], None) for job in jobs if job is not None and job[1] is not None]
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
            if done:
                self._loop.call_soon_threadsafe(_answer, done, failure)


def _answer(done: list[tuple[asyncio.Future[Any], Any]], failure: Exception | None) -> None:
    for future, value in done:
        if future.done():
            continue
        if failure is not None:
            future.set_exception(UsageError(f"--ledger: cannot be written ({failure})"))
        else:
            future.set_result(value)
