"""The writer's SQL statements, compiled once for a database; parameters are plain tuples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Table, and_, case, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.elements import ColumnElement

from cloud.telemetry import tables

Insert = sqlite.Insert | postgresql.Insert
LARGEST, SMALLEST = ("latency_max_ms",), ("battery_low",)  # roll-up columns that are not sums


@dataclass(frozen=True)
class Statements:
    """INSERT statements whose parameters are the columns of their table, in order."""

    telemetry: str  # skips existing rows, like ``event``
    event: str
    device: str  # replaces the epoch
    state: str  # replaces a state of an earlier session, or an earlier state of the same session
    received: str  # replaces the last number of a range
    rollup: str  # adds to the sums


def places_of(dialect: Dialect) -> dict[str | None, str | None]:
    """Return SQLAlchemy's ``schema_translate_map`` for the tables."""
    return {None: tables.POSTGRES_SCHEMA} if dialect.name == "postgresql" else {}


def statements(dialect: Dialect) -> Statements:
    """Return the statements in the SQL of ``dialect``."""

    def insert(table: Table) -> Insert:
        if dialect.name == "sqlite":
            return sqlite.insert(table)
        return postgresql.insert(table)

    places = places_of(dialect)

    def text(statement: Insert) -> str:
        made = statement.compile(
            dialect=dialect, schema_translate_map=places, render_schema_translate=bool(places)
        )
        return str(made)

    def replacing(table: Table, *columns: str) -> Insert:
        made = insert(table)
        return made.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={name: made.excluded[name] for name in columns},
        )

    return Statements(
        text(insert(tables.telemetry).on_conflict_do_nothing()),
        text(insert(tables.event).on_conflict_do_nothing()),
        text(replacing(tables.device, "epoch")),
        text(_replacing_state(insert(tables.state))),
        text(replacing(tables.received, "last")),
        text(_adding(insert(tables.rollup))),
    )


def _replacing_state(made: Insert) -> Insert:
    columns, new = tables.state.c, made.excluded
    later = new.received_s >= columns.received_s
    return made.on_conflict_do_update(
        index_elements=list(tables.state.primary_key),
        set_={name: new[name] for name in ("epoch", "session", "received_s", "payload")},
        # A retained message that the broker sends again keeps its first arrival.
        where=or_(
            and_(new.epoch != columns.epoch, later),
            and_(new.epoch == columns.epoch, new.session > columns.session),
            and_(
                new.epoch == columns.epoch,
                new.session == columns.session,
                later,
                new.payload != columns.payload,
            ),
        ),
    )


def _adding(made: Insert) -> Insert:
    columns, new = tables.rollup.c, made.excluded
    changed: dict[str, ColumnElement[Any]] = {}
    for column in tables.rollup.columns:
        name = column.name
        if column.primary_key:
            continue
        if name in LARGEST:
            changed[name] = case((new[name] > columns[name], new[name]), else_=columns[name])
        elif name in SMALLEST:
            changed[name] = case((new[name] < columns[name], new[name]), else_=columns[name])
        else:
            changed[name] = columns[name] + new[name]
    return made.on_conflict_do_update(index_elements=list(tables.rollup.primary_key), set_=changed)
