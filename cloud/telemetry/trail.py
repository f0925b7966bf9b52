"""The audit trail: what people changed, in the table ``change`` of the telemetry store."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from cloud.telemetry import tables

_C = tables.change.c


@dataclass(frozen=True)
class Change:
    """Who changed what, when (seconds since 1970), on which target, and the result."""

    fleet: str
    made_s: float
    id: str
    who: str
    target: str
    what: str
    result: str


def add(connection: Connection, change: Change) -> None:
    """Write a change, before it is made."""
    connection.execute(tables.change.insert(), [vars(change)])


def finish(connection: Connection, change: Change) -> None:
    """Write the result of a change."""
    same = (_C.fleet == change.fleet, _C.made_s == change.made_s, _C.id == change.id)
    connection.execute(update(tables.change).where(*same).values(result=change.result))


def recent(connection: Connection, fleet: str, limit: int) -> list[Change]:
    """Return the last changes of ``fleet``, the latest first."""
    query = select(tables.change).where(_C.fleet == fleet).order_by(_C.made_s.desc()).limit(limit)
    return [Change(*row) for row in connection.execute(query)]
