"""A plain SQLite file of received messages: what the controller needs to run by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from cloud.fleet.store import Appended, Ranges, Received
from shared.errors import UsageError
from shared.fleet import Message, Telemetry
from shared.fleet_json import dump

SCHEMA = """
CREATE TABLE IF NOT EXISTS telemetry (
    fleet TEXT, device TEXT, sequence INTEGER, received_s REAL, payload TEXT,
    PRIMARY KEY (fleet, device, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    fleet TEXT, device TEXT, kind TEXT, received_s REAL, payload TEXT
);
"""
RANGES = """
SELECT device, min(sequence), max(sequence) FROM (
    SELECT device, sequence,
           sequence - row_number() OVER (PARTITION BY device ORDER BY sequence) AS run
    FROM telemetry WHERE fleet = ?)
GROUP BY device, run ORDER BY device, 2
"""


class LogStore:
    """A ``TelemetryStore`` in the file ``path``. Use as ``async with``; one process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="telemetry store")

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except sqlite3.Error as error:
            raise UsageError(f"--store: {self._path} cannot be used ({error})") from None
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._run(self._close)
        self._executor.shutdown()

    async def append(self, batch: Sequence[Received]) -> Appended:
        """Commit ``batch`` in one transaction."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._append, batch)

    async def sequences(self, fleet: str) -> Mapping[str, Ranges]:
        """The runs of sequence numbers that are stored."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._sequences, fleet)

    async def _run(self, work: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, work)  # type: ignore[arg-type]

    def _open(self) -> None:
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(SCHEMA)

    def _close(self) -> None:
        self._database.close()

    def _append(self, batch: Sequence[Received]) -> Appended:
        rows, events = [], []
        for one in batch:
            text = _text(one.message)
            topic = one.topic
            if isinstance(one.message, Telemetry):
                sequence = one.message.sequence
                rows.append((topic.fleet, topic.device, sequence, one.received_s, text))
            else:
                events.append((topic.fleet, topic.device, topic.kind.value, one.received_s, text))
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            before = database.total_changes
            database.executemany("INSERT OR IGNORE INTO telemetry VALUES (?, ?, ?, ?, ?)", rows)
            stored = database.total_changes - before
            database.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?)", events)
            database.execute("COMMIT")
        except sqlite3.Error:
            database.execute("ROLLBACK")
            raise
        return Appended(stored, len(rows) - stored)

    def _sequences(self, fleet: str) -> dict[str, Ranges]:
        found: dict[str, Ranges] = {}
        for device, first, last in self._database.execute(RANGES, (fleet,)):
            found[device] = (*found.get(device, ()), (first, last))
        return found


def _text(message: Message) -> str:
    return dump(message).decode()
