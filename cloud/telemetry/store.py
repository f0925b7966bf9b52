"""The writer of the telemetry store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, and_, delete, or_, select

from cloud.telemetry import tables, trail
from cloud.telemetry.arrival import ArrivalClock
from cloud.telemetry.database import open_writing, translated
from cloud.telemetry.queries import desired_states, fleets, newest_s, stored_sequences
from cloud.telemetry.ranges import NumberRanges
from cloud.telemetry.records import Appended, Ranges, Received
from cloud.telemetry.rolled import clock_ahead
from cloud.telemetry.rollups import KEPT_TIMES, roll_up
from cloud.telemetry.statements import statements
from cloud.telemetry.trail import ChangeRecord
from shared.errors import StoreError
from shared.fleet.messages import Desired, MessageKind, Telemetry
from shared.fleet.payloads import dump

EXPIRE_EVERY_S = 60.0
ROWS_A_TRANSACTION = 20_000  # expired rows deleted at once; new telemetry waits for one at most
_VALUES = attrgetter(*tables.FIELDS)
_STATES = (MessageKind.BIRTH, MessageKind.DEATH, MessageKind.DESIRED, MessageKind.REPORTED)
Key = tuple[str, str, str]  # fleet, device, epoch
R = TypeVar("R")
_log = logging.getLogger(__name__)


class Store:
    """A ``TelemetryStore`` in the database ``url``. Use as ``async with``.

    Once a minute, telemetry and events that arrived more than ``keep_s`` seconds ago are deleted
    (None: never), for the fleets that this process writes. Roll-ups are kept longer, the last
    states of devices for ever. Every method raises ``StoreError`` if the database fails; then
    nothing of the batch is stored.
    """

    def __init__(
        self, url: str, keep_s: float | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        self._url = url
        self._clock = clock or ArrivalClock()
        self._opened_s = self._newest_s = 0.0
        self._keep_s = keep_s
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="telemetry store")
        self._expiring: asyncio.Task[None] | None = None
        self._numbers: dict[str, dict[Key, NumberRanges]] = {}  # by fleet that this process writes
        self._epochs: dict[tuple[str, str], str] = {}  # epoch of a device's latest telemetry

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
        """Commit ``batch`` in one transaction; appending it again changes nothing."""
        return await self._run(lambda: self._append(batch))

    async def sequences(self, fleet: str) -> Mapping[tuple[str, str], Ranges]:
        """Return all sequence numbers ever stored, by (device, epoch), including expired ones."""

        def read() -> dict[tuple[str, str], Ranges]:
            known = self._known(fleet)
            return {(name, epoch): one.ranges for (_, name, epoch), one in known.items()}

        return await self._run(read)

    async def desired(self, fleet: str) -> Mapping[str, Desired]:
        """Return the last desired state of each device."""
        return await self._run(lambda: self._read(lambda one: desired_states(one, fleet)))

    async def newest_s(self, fleet: str) -> float:
        """Return the arrival of the newest telemetry; 0 without any."""
        return await self._run(lambda: self._read(lambda one: newest_s(one, fleet)))

    def _read(self, work: Callable[[Connection], R]) -> R:
        try:
            return work(self._connection)
        finally:
            self._connection.rollback()

    async def retire(self, fleet: str, device: str) -> None:
        """Remove a device from the list of devices; its telemetry stays."""

        def work() -> None:
            with self._connection.begin():
                for table in (tables.state, tables.device):
                    same = (table.c.fleet == fleet, table.c.device == device)
                    self._connection.execute(delete(table).where(*same))
            self._epochs.pop((fleet, device), None)

        await self._run(work)

    async def expire(self) -> int:
        """Delete about ``ROWS_A_TRANSACTION`` expired rows; return how many."""
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
        newest = [newest_s(self._connection, fleet) for fleet in fleets(self._connection)]
        self._opened_s = self._clock()
        self._newest_s = max(newest, default=0.0) or self._opened_s
        self._statements = statements(self._engine.dialect)
        for row in self._connection.execute(select(tables.device)):
            self._epochs[row.fleet, row.device] = row.epoch
        self._connection.rollback()

    def _close(self) -> None:
        if hasattr(self, "_engine"):
            self._connection.close()
            self._engine.dispose()

    def _known(self, fleet: str) -> dict[Key, NumberRanges]:
        """Return the stored numbers of ``fleet``, read from the database once."""
        if fleet not in self._numbers:
            found = stored_sequences(self._connection, fleet)
            self._connection.rollback()
            self._numbers[fleet] = {
                (fleet, *key): NumberRanges(ranges) for key, ranges in found.items()
            }
        return self._numbers[fleet]

    def _append(self, batch: Sequence[Received]) -> Appended:
        sent = [one for one in batch if isinstance(one.message, Telemetry)]
        changed: dict[Key, NumberRanges] = {}
        fresh = [one for one in sent if self._is_new(one, changed)]
        states, events = _state_and_event_rows(
            one for one in batch if not isinstance(one.message, Telemetry)
        )
        telemetry = [(one.topic.fleet, *_VALUES(one.message), one.received_s) for one in fresh]
        summed = roll_up((one.topic.fleet, one.message) for one in fresh
                         if isinstance(one.message, Telemetry))  # fmt: skip
        epochs = {(one.topic.fleet, one.topic.device): getattr(one.message, "epoch", "")
                  for one in fresh}  # fmt: skip
        devices = {key: epoch for key, epoch in epochs.items() if self._epochs.get(key) != epoch}
        renewed = self._renewed(fresh)
        connection, into = self._connection, self._statements
        with connection.begin():
            for change in renewed:
                trail.add(connection, change)
            _insert(connection, into.telemetry, telemetry)
            _insert(connection, into.rollup, summed)
            _insert(connection, into.device, [(*key, epoch) for key, epoch in devices.items()])
            _insert(connection, into.event, events)
            _insert(connection, into.state, states)
            self._write_ranges(connection, changed)
        for key, numbers in changed.items():
            self._numbers[key[0]][key] = numbers
        self._epochs.update(devices)
        return Appended(len(fresh), len(sent) - len(fresh))

    def _is_new(self, one: Received, changed: dict[Key, NumberRanges]) -> bool:
        """Add the number to ``changed``, a copy until the commit; return False if it was stored."""
        message = one.message
        assert isinstance(message, Telemetry)  # noqa: S101 - chosen by the caller
        key = one.topic.fleet, one.topic.device, message.epoch
        if key not in changed:
            known = self._known(one.topic.fleet).get(key)
            changed[key] = NumberRanges(() if known is None else known.ranges)
        return bool(changed[key].add(message.sequence))

    def _renewed(self, fresh: Sequence[Received]) -> list[ChangeRecord]:
        """Return a record for each device that has left its epoch and begun a new one."""
        found: dict[Key, ChangeRecord] = {}
        for one in fresh:
            fleet, device = one.topic.fleet, one.topic.device
            before, epoch = self._epochs.get((fleet, device)), getattr(one.message, "epoch", "")
            key = fleet, device, epoch
            if before is not None and key not in self._known(fleet) and key not in found:
                found[key] = trail.epoch_of(*key, before, one.received_s)
        return list(found.values())

    def _write_ranges(self, connection: Connection, changed: dict[Key, NumberRanges]) -> None:
        rows, gone = [], []
        columns = tables.received.c
        for key, numbers in changed.items():
            known = self._numbers[key[0]].get(key)
            before = {} if known is None else dict(known.ranges)
            after = dict(numbers.ranges)
            rows += [(*key, a, b) for a, b in after.items() if before.get(a) != b]
            gone += [(*key, first) for first in before.keys() - after.keys()]
        for fleet, device, epoch, first in gone:
            same = (columns.fleet == fleet, columns.device == device, columns.epoch == epoch)
            connection.execute(delete(tables.received).where(*same, columns.first == first))
        _insert(connection, self._statements.received, rows)

    def _expire(self, keep_s: float) -> int:
        # "Now" is the newest arrival plus the time that this process has run, so that a wall clock
        # that was wrong at the start does not make rows expire.
        now_s = self._newest_s + self._clock() - self._opened_s
        connection = self._connection
        dropped = 0
        with connection.begin():
            for fleet in sorted(self._numbers):
                dropped += self._expire_telemetry(connection, fleet, now_s - keep_s)
                columns = tables.event.c
                old = (columns.fleet == fleet) & (columns.received_s < now_s - keep_s)
                dropped += connection.execute(delete(tables.event).where(old)).rowcount
                self._expire_rollups(connection, fleet, now_s, keep_s)
        return dropped

    def _expire_rollups(
        self, connection: Connection, fleet: str, now_s: float, keep_s: float
    ) -> None:
        """Delete roll-ups that are too old by the devices' usual clock, or lie in its future."""
        sums = tables.rollup.c
        devices_s = now_s + clock_ahead(connection, fleet)
        dropped = [
            and_(
                sums.width_s == width_s,
                or_(sums.start_s < devices_s - times * keep_s, sums.start_s > devices_s + keep_s),
            )
            for width_s, times in KEPT_TIMES.items()
        ]
        connection.execute(delete(tables.rollup).where(sums.fleet == fleet, or_(*dropped)))

    def _expire_telemetry(self, connection: Connection, fleet: str, before_s: float) -> int:
        """Delete telemetry that arrived before ``before_s``, the oldest first; return the
        number.
        """
        columns = tables.telemetry.c
        of_fleet = columns.fleet == fleet
        times = select(columns.received_s).where(of_fleet).order_by(columns.received_s)
        last_s = connection.execute(times.offset(ROWS_A_TRANSACTION).limit(1)).scalar()
        old = of_fleet & (columns.received_s < before_s)
        if last_s is not None:
            old &= columns.received_s <= last_s
        return int(connection.execute(delete(tables.telemetry).where(old)).rowcount)


Rows = list[tuple[Any, ...]]


def _state_and_event_rows(batch: Any) -> tuple[Rows, Rows]:
    """Return the rows of the tables state and event for messages other than telemetry."""
    states: Rows = []
    events: Rows = []
    for one in batch:
        topic, message = one.topic, one.message
        text = dump(message).decode()
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        name = (topic.fleet, topic.device, topic.kind.value)
        events.append((*name, digest, one.received_s, text))
        if topic.kind in _STATES:
            epoch, session = getattr(message, "epoch", ""), getattr(message, "session", 0)
            if isinstance(message, Desired):
                session = message.version
            states.append((*name, epoch, session, one.received_s, text))
    return states, events


def _insert(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        connection.exec_driver_sql(statement, list(rows))
