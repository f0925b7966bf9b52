"""Numbered telemetry in SQLite, kept until the broker has confirmed it and for a while after.

One thread writes for all devices of a process, in groups that share a transaction. Numbers and
messages are committed before they are sent: after ``kill -9`` a device continues with its next
number and sends unconfirmed messages again. The last ``KEEP`` confirmed messages stay, so that a
recorder can request those that a broker lost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from device.split.damaged import readable_rows, set_aside
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
_log = logging.getLogger(__name__)
Work = Callable[[sqlite3.Connection], Any]
Entry = tuple[int, bytes]  # (sequence number, payload)


@dataclass(frozen=True)
class Session:
    """A connection: its epoch, its number in the epoch, and the next sequence number."""

    epoch: str
    number: int
    next_sequence: int


class Ledger:
    """The numbers and unconfirmed telemetry of the devices of one process, in the file ``path``.

    A device may have ``limit`` unconfirmed messages; beyond that the oldest is dropped. A damaged
    file is set aside and a new epoch begins, with the unconfirmed messages that can still be read.
    If a file cannot be used at all, the ledger works in memory. Both cases are logged. Use as
    ``async with``.
    """

    def __init__(self, path: Path | str, limit: int = 2000) -> None:
        self._path = path
        self._limit = limit
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._commits: GroupCommit[Work, Any] = GroupCommit(self._commit, self._thread)

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        return self

    def _open(self) -> None:
        """Open the file; use a new one if it is damaged, or none if it cannot be used."""
        try:
            self._database = _connect(self._path)
        except sqlite3.OperationalError as error:
            self._without_file(str(error))
        except sqlite3.DatabaseError as error:
            path = Path(self._path)
            try:
                aside = set_aside(path)
                self._database = _connect(path)
                kept = _take_over(aside, self._database, self._limit)
            except (OSError, sqlite3.Error) as second:
                self._without_file(str(second))
            else:
                text = "--ledger: %s is damaged (%s); set aside as %s, %d unsent messages are kept"
                _log.warning(text, path, error, aside, kept)

    def _without_file(self, reason: str) -> None:
        _log.warning("--ledger: %s cannot be used (%s); kept in memory", self._path, reason)
        self._database = _connect(":memory:")

    async def leave_disk(self) -> None:
        """Continue in memory with a new epoch, since the file cannot be written."""

        def leave() -> None:
            self._database.close()
            self._without_file("it has failed for long")

        await asyncio.get_running_loop().run_in_executor(self._thread, leave)

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
        """Begin a connection of ``device``; return its session."""

        def work(database: sqlite3.Connection) -> Session:
            number, following = database.execute(
                "INSERT INTO device VALUES (?, 1, 1) ON CONFLICT (name) "
                "DO UPDATE SET session = session + 1 RETURNING session, next_sequence",
                (device,),
            ).fetchone()
            # Ledgers of earlier releases have no epochs; their numbers belong to the epoch "".
            (epoch,) = database.execute(
                "INSERT INTO epoch VALUES (?, ?) ON CONFLICT (device) "
                "DO UPDATE SET epoch = epoch RETURNING epoch",
                (device, secrets.token_hex(8) if number == 1 else ""),
            ).fetchone()
            return Session(epoch, number, following)

        return await self._ask(work)

    async def renew(self, device: str) -> int:
        """Begin a new epoch of ``device``; return how many unconfirmed messages are dropped."""

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
        """Store the desired state that is in force, for the next start."""
        await self._ask(
            lambda database: database.execute(
                "INSERT INTO desired VALUES (?, ?) ON CONFLICT (device) "
                "DO UPDATE SET payload = excluded.payload",
                (device, payload),
            )
        )

    async def desired(self, device: str) -> bytes | None:
        """Return the stored desired state; None if there is none."""
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
        """Record that the broker has confirmed a message."""
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
        """Return the lowest stored sequence number; None if none is stored."""
        text = "SELECT min(sequence) FROM telemetry WHERE device = ? AND sequence > 0"
        return await self._ask(lambda database: database.execute(text, (device,)).fetchone()[0])

    async def between(self, device: str, first: int, last: int) -> list[Entry]:
        """Return the stored messages with numbers from ``first`` to ``last``, inclusive."""
        return await self._select("AND sequence BETWEEN ? AND ?", device, first, last)

    async def _select(self, where: str, *values: str | int) -> list[Entry]:
        text = f"SELECT sequence, payload FROM telemetry WHERE device = ? {where} ORDER BY sequence"  # noqa: S608 - both texts are ours
        return await self._ask(lambda database: database.execute(text, values).fetchall())

    async def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        answer: T = await self._commits.post(work)
        return answer

    def _commit(self, jobs: Sequence[Work]) -> list[Any]:
        """Run all ``jobs`` in one transaction; ``UsageError`` if it cannot be written."""
        try:
            self._database.execute("BEGIN")
            results = [job(self._database) for job in jobs]
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise UsageError(f"--ledger: cannot be written ({error})") from None
        return results


def _connect(path: Path | str) -> sqlite3.Connection:
    """Open the file, creating it if needed; ``sqlite3.Error``."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("its pages do not fit together")
        database.executescript(SCHEMA)
        database.execute("BEGIN IMMEDIATE")  # fails now if the disk is read-only
        database.execute("PRAGMA user_version=1")
        database.execute("COMMIT")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _take_over(aside: Path, database: sqlite3.Connection, limit: int) -> int:
    """Copy what can be read of a damaged ledger: desired states and unconfirmed messages.

    The payloads of the messages hold numbers of the old epoch; in the new ledger they are stored
    under numbers below those of the new epoch. Returns how many there are, at most ``limit``.
    """
    desired = [
        (row["device"], row["payload"])
        for row in readable_rows(aside, "desired", "device")
        if isinstance(row["payload"], bytes)
    ]
    rows = readable_rows(aside, "telemetry", "device", "sequence")
    unsent = [row for row in rows if row["confirmed"] == 0 and _is_whole(row)][-limit:]
    numbers = range(-len(unsent), 0)
    messages = [
        (row["device"], number, row["payload"]) for number, row in zip(numbers, unsent, strict=True)
    ]
    database.execute("BEGIN")
    database.executemany("INSERT INTO desired VALUES (?, ?)", desired)
    text = "INSERT INTO telemetry (device, sequence, payload) VALUES (?, ?, ?)"
    database.executemany(text, messages)
    database.execute("COMMIT")
    return len(messages)


def _is_whole(row: sqlite3.Row) -> bool:
    """Whether the message in a row of a damaged ledger matches the row's device and number."""
    try:
        message = json.loads(row["payload"])
        return bool(
            message["device"] == row["device"]
            and (row["sequence"] < 0 or message["sequence"] == row["sequence"])
        )
    except (TypeError, ValueError, KeyError):
        return False
