"""The writer's statements, compiled once for a database; their parameters are plain tuples."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Dialect, Table, or_
from sqlalchemy.dialects import postgresql, sqlite

from cloud.telemetry import tables

Insert = sqlite.Insert | postgresql.Insert


@dataclass(frozen=True)
class Statements:
    """Each takes the columns of its table, in order; what is there already is left as it is."""

    telemetry: str
    event: str
    device: str
    state: str  # replaces the state of an earlier session, and an earlier state of the same one


def statements(dialect: Dialect) -> Statements:
    """What ``dialect`` understands."""

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
        # The same again, as a broker sends what it retains, keeps the time when it first came.
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
