"""The writer's SQL, compiled once for a database; parameters are plain tuples."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Dialect, Table, or_
from sqlalchemy.dialects import postgresql, sqlite

from cloud.telemetry import tables

Insert = sqlite.Insert | postgresql.Insert


@dataclass(frozen=True)
class Statements:
    """Inserts that take the columns of their table, in order, and skip rows that exist."""

    telemetry: str
    event: str
    device: str
    state: str  # replaces the state of an earlier session, and an earlier state of the same one


def statements(dialect: Dialect) -> Statements:
    """Return the statements in the SQL of ``dialect``."""

    def insert(table: Table) -> Insert:
        if dialect.name == "sqlite":
            return sqlite.insert(table)
        return postgresql.insert(table)

    def text(statement: Insert) -> str:
        return str(statement.compile(dialect=dialect))

    columns = tables.state.c
    replacing = insert(tables.state)
    new = replacing.excluded
    replacing = replacing.on_conflict_do_update(
        index_elements=list(tables.state.primary_key),
        set_={name: new[name] for name in ("session", "received_s", "payload")},
        # A retained message that the broker sends again keeps the time of its first arrival.
        where=or_(
            new.session > columns.session,
            (new.session == columns.session)
            & (new.received_s >= columns.received_s)
            & (new.payload != columns.payload),
        ),
    )
    return Statements(
        text(insert(tables.telemetry).on_conflict_do_nothing()),
        text(insert(tables.event).on_conflict_do_nothing()),
        text(insert(tables.device).on_conflict_do_nothing()),
        text(replacing),
    )
