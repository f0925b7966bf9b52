"""The one writer of the telemetry store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, bindparam, delete, insert, select
from sqlalchemy.sql.elements import ColumnElement

from cloud.telemetry import tables
from cloud.telemetry.database import open_writing, translated
from cloud.telemetry.queries import joined, runs, stored_sequences
from cloud.telemetry.records import Appended, Ranges, Received
from cloud.telemetry.statements import statements
from shared.errors import StoreError
from shared.fleet.messages import MessageKind, Telemetry
from shared.fleet.payloads import dump

EXPIRE_EVERY_S = 60.0
ROWS_A_TRANSACTION = 20_000  # expired rows; new telemetry waits for one such transaction at most
_VALUES = attrgetter(*tables.FIELDS)
_STATES = (MessageKind.BIRTH, MessageKind.DEATH, MessageKind.REPORTED)
R = TypeVar("R")
_log = logging.getLogger(__name__)


class Store:
    """A ``TelemetryStore`` in the database ``url``. Use as ``async with``.

    Telemetry and events of its fleets that arrived more than ``keep_s`` ago are dropped, once a
    minute; the last state of a device stays. Every method raises ``StoreError`` if the database
    fails; then nothing of the batch is stored.
    """

    def __init__(
        self, url: str, keep_s: float | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._url = url
        self._clock = clock
        self._keep_s = keep_s
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="telemetry store")
        self._expiring: asyncio.Task[None] | None = None
        self._fleets: set[str] = set()  # that this store writes
        self._known: set[tuple[str, str]] = set()  # devices with a row
        self._expired: dict[tuple[str, str], Ranges] = {}

    async def __aenter__(self) -> Self:
        await self._run(self._open)
        if self._keep_s is not None:
            self._expiring = asyncio.create_task(self._keep_expiring(), name="telemetry retention")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
            await asyncio.gather(self._expiring, return_exceptions=True)
        await self._run(self._close)
        self._executor.shutdown()

    async def append(self, batch: Sequence[Received]) -> Appended:
        """Commit ``batch`` in one transaction; the same batch again changes nothing."""
        return await self._run(lambda: self._append(batch))

    async def sequences(self, fleet: str) -> Mapping[str, Ranges]:
        """Return the sequence numbers of each device that are stored, or were before retention."""

        def read() -> dict[str, Ranges]:
            with self._engine.connect() as connection:
                return stored_sequences(connection, fleet)

        self._fleets.add(fleet)
        return await self._run(read)

    async def expire(self) -> int:
        """Drop about ``ROWS_A_TRANSACTION`` rows that are too old; return how many."""
        keep_s = self._keep_s
        return 0 if keep_s is None else await self._run(lambda: self._expire(keep_s))

    async def _keep_expiring(self) -> None:
        while True:
            try:
                while await self.expire():
                    pass  # new telemetry is stored between these transactions
            except StoreError as error:
                _log.warning("%s; no telemetry is dropped", error)
            await asyncio.sleep(EXPIRE_EVERY_S)

    async def _run(self, work: Callable[[], R]) -> R:
        def guarded() -> R:
            if not hasattr(self, "_engine"):
                return work()
            with translated(self._engine.url):
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._executor, guarded)

    def _open(self) -> None:
        self._engine = open_writing(self._url)
        self._connection = self._engine.connect()
        self._statements = statements(self._engine.dialect)
        known = self._connection.execute(select(tables.device)).all()
        self._known = {(row.fleet, row.device) for row in known}
        self._remember_expired()
        self._connection.rollback()

    def _close(self) -> None:
        if hasattr(self, "_engine"):
            self._connection.close()
            self._engine.dispose()

    def _append(self, batch: Sequence[Received]) -> Appended:
        rows, states, events, devices = [], [], [], set()
        sent = 0
        for one in batch:
            topic, message = one.topic, one.message
            if isinstance(message, Telemetry):
                sent += 1
                key = topic.fleet, topic.device
                if key in self._expired and _within(message.sequence, self._expired[key]):
                    continue
                if key not in self._known:
                    devices.add(key)
                rows.append((topic.fleet, *_VALUES(message), one.received_s))
                continue
            text = dump(message).decode()
            digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            name = (topic.fleet, topic.device, topic.kind.value)
            events.append((*name, digest, one.received_s, text))
            if topic.kind in _STATES:
                session = getattr(message, "session", 0)
                states.append((*name, session, one.received_s, text))
        connection, into = self._connection, self._statements
        with connection.begin():
            stored = _insert(connection, into.telemetry, rows)
            _insert(connection, into.device, sorted(devices))
            _insert(connection, into.event, events)
            _insert(connection, into.state, states)
        self._known |= devices
        self._fleets.update(one.topic.fleet for one in batch)
        return Appended(stored, sent - stored)

    def _expire(self, keep_s: float) -> int:
        connection, before_s = self._connection, self._clock() - keep_s
        dropped = 0
        with connection.begin():
            for fleet in sorted(self._fleets):
                dropped += self._expire_telemetry(connection, fleet, before_s)
                columns = tables.event.c
                old = (columns.fleet == fleet) & (columns.received_s < before_s)
                dropped += connection.execute(delete(tables.event).where(old)).rowcount
        if dropped:
            with connection.begin():
                self._remember_expired()
        return dropped

    def _expire_telemetry(self, connection: Connection, fleet: str, before_s: float) -> int:
        """Drop telemetry that arrived before ``before_s``, the oldest first; note its numbers."""
        columns = tables.telemetry.c
        of_fleet = columns.fleet == fleet
        times = select(columns.received_s).where(of_fleet).order_by(columns.received_s)
        last_s = connection.execute(times.offset(ROWS_A_TRANSACTION).limit(1)).scalar()
        old = of_fleet & (columns.received_s < before_s)
        if last_s is not None:
            old &= columns.received_s <= last_s
        self._note_expired(connection, fleet, old)
        return int(connection.execute(delete(tables.telemetry).where(old)).rowcount)

    def _note_expired(self, connection: Connection, fleet: str, old: ColumnElement[bool]) -> None:
        gone: dict[str, list[tuple[int, int]]] = {}
        for name, first, last in connection.execute(runs(old)):
            gone.setdefault(name, []).append((first, last))
        if not gone:
            return
        noted = tables.expired.c
        of_device = (noted.fleet == fleet) & (noted.device == bindparam("name"))
        connection.execute(
            delete(tables.expired).where(of_device), [{"name": name} for name in gone]
        )
        whole = [
            {"fleet": fleet, "device": name, "first": first, "last": last}
            for name, ranges in gone.items()
            for first, last in joined([*self._expired.get((fleet, name), ()), *ranges])
        ]
        connection.execute(insert(tables.expired), whole)

    def _remember_expired(self) -> None:
        found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for fleet, name, first, last in self._connection.execute(select(tables.expired)):
            found.setdefault((fleet, name), []).append((first, last))
        self._expired = {key: joined(ranges) for key, ranges in found.items()}


def _within(sequence: int, ranges: Ranges) -> bool:
    return any(first <= sequence <= last for first, last in ranges)


def _insert(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert ``rows``; return how many were new."""
    return connection.exec_driver_sql(statement, list(rows)).rowcount if rows else 0
