"""The audit trail: changes by people, in the table ``change`` of the telemetry store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from cloud.telemetry import tables
from cloud.telemetry.database import open_writing, translated

_C = tables.change.c


@dataclass(frozen=True)
class ChangeRecord:
    """A change: who, when (seconds since 1970), target, what, and the result."""

    fleet: str
    made_s: float
    id: str
    who: str
    target: str
    what: str
    result: str


DEVICE = "device"  # the ``who`` of records about epochs
NEW_EPOCH = "new epoch"


def epoch_of(fleet: str, device: str, epoch: str, before: str, made_s: float) -> ChangeRecord:
    """Return the record that ``device`` has begun ``epoch`` in place of ``before``."""
    what = f"{NEW_EPOCH} {epoch} after {before or 'none'}: its ledger was lost, restored or copied"
    return ChangeRecord(fleet, made_s, f"{device} {epoch}", DEVICE, device, what, "")


def add(connection: Connection, change: ChangeRecord) -> None:
    """Write a change that is about to be made."""
    connection.execute(tables.change.insert(), [vars(change)])


def finish(connection: Connection, change: ChangeRecord) -> None:
    """Write the result of a change."""
    same = (_C.fleet == change.fleet, _C.made_s == change.made_s, _C.id == change.id)
    connection.execute(update(tables.change).where(*same).values(result=change.result))


def recent(connection: Connection, fleet: str, limit: int) -> list[ChangeRecord]:
    """Return the last changes of ``fleet``, the latest first."""
    query = select(tables.change).where(_C.fleet == fleet).order_by(_C.made_s.desc()).limit(limit)
    return [ChangeRecord(*row) for row in connection.execute(query)]


def write_change(url: str, change: ChangeRecord) -> None:
    """Open the store at ``url`` and write one change; raises ``StoreError`` if that fails."""
    _write(url, lambda connection: add(connection, change))


def write_result(url: str, change: ChangeRecord) -> None:
    """Open the store at ``url`` and write the result of a change."""
    _write(url, lambda connection: finish(connection, change))


def _write(url: str, work: Callable[[Connection], None]) -> None:
    engine = open_writing(url)
    try:
        with translated(engine.url), engine.begin() as connection:
            work(connection)
    finally:
        engine.dispose()
