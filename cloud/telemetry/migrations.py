"""Migrate stores of earlier releases to the tables of this one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, Text, func, insert, inspect, select, text

from cloud.telemetry import rollups, tables
from cloud.telemetry.ranges import NumberRanges

_log = logging.getLogger(__name__)


def migrate(connection: Connection, version: int) -> None:
    """Migrate the tables from ``version`` to the present one, in the caller's transaction."""
    for step in range(version, tables.SCHEMA_VERSION):
        _log.warning("bringing the telemetry store from version %d to %d", step, step + 1)
        STEPS[step](connection)
    connection.execute(tables.schema.update().values(version=tables.SCHEMA_VERSION))


def _add_epochs_and_rollups(connection: Connection) -> None:
    """Version 1 had no epochs and no roll-ups, and listed only the numbers of expired rows."""
    for index in ("telemetry_received", "event_received"):
        connection.execute(text(f"DROP INDEX IF EXISTS {index}"))
    renamed = {}
    for table in (tables.telemetry, tables.state, tables.device, tables.event):
        renamed[table] = f"{table.name}_1"
        connection.execute(text(f"ALTER TABLE {table.name} RENAME TO {renamed[table]}"))
    tables.metadata.create_all(connection)
    for table, old in renamed.items():
        _copy(connection, table, old)
    found: dict[tuple[str, str], NumberRanges] = {}
    expired = connection.execute(text("SELECT fleet, device, first, last FROM expired")).all()
    for fleet, name, first, last in [*expired, *connection.execute(_runs())]:
        found.setdefault((fleet, name), NumberRanges()).add(first, last)
    rows = [
        {"fleet": fleet, "device": name, "epoch": "", "first": first, "last": last}
        for (fleet, name), numbers in found.items()
        for first, last in numbers.ranges
    ]
    if rows:
        connection.execute(insert(tables.received), rows)
    connection.execute(text("DROP TABLE expired"))
    rollups.fill(connection)


def _runs() -> Select[Any]:
    """Select fleet, device, first and last number of each run without gaps."""
    columns = tables.telemetry.c
    key = (columns.fleet, columns.device)
    place = func.row_number().over(partition_by=key, order_by=columns.sequence)
    run = (columns.sequence - place).label("run")
    inner = select(*key, columns.sequence, run).subquery().c
    ends = (func.min(inner.sequence), func.max(inner.sequence))
    return select(inner.fleet, inner.device, *ends).group_by(inner.fleet, inner.device, inner.run)


def _copy(connection: Connection, table: Table, old: str) -> None:
    """Fill ``table`` from its predecessor ``old``; new columns are empty or 0."""
    known = {column["name"] for column in inspect(connection).get_columns(old)}
    quote = connection.dialect.identifier_preparer.quote
    names = ", ".join(quote(column.name) for column in table.columns)
    values = ", ".join(
        quote(column.name) if column.name in known else _default(column) for column in table.columns
    )
    connection.execute(text(f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {old}"))  # noqa: S608 - names of our tables
    connection.execute(text(f"DROP TABLE {old}"))


def _add_audits_and_rollouts(connection: Connection) -> None:
    """Version 2 had no audited samples, no roll-outs and no audit trail."""
    _add_columns(connection)
    tables.metadata.create_all(connection)


def _add_columns(connection: Connection) -> None:
    """Add missing columns to telemetry and roll-ups; version 3 had no second looks."""
    for table in (tables.telemetry, tables.rollup):
        known = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(connection.dialect)
                added = f"{column.name} {kind} NOT NULL DEFAULT {_default(column)}"
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {added}"))


def _default(column: Column[Any]) -> str:
    return "''" if isinstance(column.type, Text) else "0"


STEPS: dict[int, Callable[[Connection], None]] = {
    1: _add_epochs_and_rollups,
    2: _add_audits_and_rollouts,
    3: _add_columns,
}
