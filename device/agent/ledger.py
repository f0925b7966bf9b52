"""Numbered telemetry in SQLite, kept until the broker has confirmed it and for a while after.

One thread writes for all devices of a process, in groups that share a transaction. Numbers and
messages are committed before they are sent: after ``kill -9`` a device continues with its next
number and sends unconfirmed messages again. The last ``KEEP`` confirmed messages stay, so that a
recorder can request those that a broker lost.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from device.split.group_commit import GroupCommit
from shared.errors import UsageError

KEEP = 200
PRUNE_EVERY = 50
SCHEMA = """
CREATE TABLE IF NOT EXISTS device (
    name TEXT PRIMARY KEY, session INTEGER NOT NULL, next_sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epoch (
    device TEXT PRIMARY KEY, epoch TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS desired (
    device TEXT PRIMARY KEY, payload BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS telemetry (
    device TEXT NOT NULL, sequence INTEGER NOT NULL, payload BLOB NOT NULL,
    confirmed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (device, sequence)
) STRICT, WITHOUT ROWID;
"""
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
Entry = tuple[int, bytes]  # sequence number, payload


@dataclass(frozen=True)
class Session:
    """A connection: its epoch, its number in it, and the sequence number to go on with."""

    epoch: str
    number: int
    next_sequence: int


class Ledger:
    """The numbers and unconfirmed telemetry of the devices of one process, in the file ``path``.

    ``limit`` is how many unconfirmed messages a device may have; the oldest is dropped.
    Use as ``async with``. ``UsageError`` if the file cannot be used.
    """

    def __init__(self, path: Path | str, limit: int = 2000) -> None:
        self._path = path
        self._limit = limit
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._commits: GroupCommit[Work, Any] = GroupCommit(self._commit, self._thread)

    async def __aenter__(self) -> Self:
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
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._commits.settle()
        self._thread.shutdown()
        self._database.close()

    async def begin(self, device: str) -> Session:
        """Count a connection of ``device``."""

        def work(database: sqlite3.Connection) -> Session:
            number, following = database.execute(
                "INSERT INTO device VALUES (?, 1, 1) ON CONFLICT (name) "
                "DO UPDATE SET session = session + 1 RETURNING session, next_sequence",
                (device,),
            ).fetchone()
            # The numbers of a ledger of an earlier release belong to the empty epoch.
            (epoch,) = database.execute(
                "INSERT INTO epoch VALUES (?, ?) ON CONFLICT (device) "
                "DO UPDATE SET epoch = epoch RETURNING epoch",
                (device, secrets.token_hex(8) if number == 1 else ""),
            ).fetchone()
            return Session(epoch, number, following)

        return await self._ask(work)

    async def renew(self, device: str) -> int:
        """Begin a new epoch of ``device``; return how many unconfirmed messages go with the old."""

        def work(database: sqlite3.Connection) -> int:
            database.execute("UPDATE epoch SET epoch = ? WHERE device = ?",
                             (secrets.token_hex(8), device))  # fmt: skip
            database.execute(
                "UPDATE device SET session = 0, next_sequence = 1 WHERE name = ?", (device,)
            )
            text = "SELECT count(*) FROM telemetry WHERE device = ? AND NOT confirmed"
            (lost,) = database.execute(text, (device,)).fetchone()
            database.execute("DELETE FROM telemetry WHERE device = ?", (device,))
            return int(lost)

        return await self._ask(work)

    async def keep_desired(self, device: str, payload: bytes) -> None:
        """Commit the desired state that is in force, for the next start."""
        await self._ask(
            lambda database: database.execute(
                "INSERT INTO desired VALUES (?, ?) ON CONFLICT (device) "
                "DO UPDATE SET payload = excluded.payload",
                (device, payload),
            )
        )

    async def desired(self, device: str) -> bytes | None:
        """Return the desired state that was in force last; None if there was none."""
        text = "SELECT payload FROM desired WHERE device = ?"
        row = await self._ask(lambda database: database.execute(text, (device,)).fetchone())
        return None if row is None else row[0]

    async def add(self, device: str, sequence: int, payload: bytes) -> int:
        """Commit a message; return how many older unconfirmed ones were dropped for it."""

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
        """Note that the broker has confirmed a message."""
        self._commits.post(
            lambda database: database.execute(
                "UPDATE telemetry SET confirmed = 1 WHERE device = ? AND sequence = ?",
                (device, sequence),
            )
        )

    async def unconfirmed(self, device: str) -> list[Entry]:
        """Return the messages that the broker has not confirmed, oldest first."""
        return await self._select("AND NOT confirmed", device)

    async def oldest(self, device: str) -> int | None:
        """Return the lowest stored number; None if none is stored."""
        text = "SELECT min(sequence) FROM telemetry WHERE device = ?"
        return await self._ask(lambda database: database.execute(text, (device,)).fetchone()[0])

    async def between(self, device: str, first: int, last: int) -> list[Entry]:
        """Return the stored messages with numbers ``first`` to ``last``, both included."""
        return await self._select("AND sequence BETWEEN ? AND ?", device, first, last)

    async def _select(self, where: str, *values: str | int) -> list[Entry]:
        text = f"SELECT sequence, payload FROM telemetry WHERE device = ? {where} ORDER BY sequence"  # noqa: S608 - both texts are ours
        return await self._ask(lambda database: database.execute(text, values).fetchall())

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        answer: T = await self._commits.post(work)
        return answer

    def _commit(self, jobs: Sequence[Work]) -> list[Any]:
        """Do all ``jobs`` in one transaction; ``UsageError`` if it cannot be written."""
        try:
            self._database.execute("BEGIN")
            results = [job(self._database) for job in jobs]
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise UsageError(f"--ledger: cannot be written ({error})") from None
        return results
