"""Open the telemetry store: an SQLite file or a PostgreSQL URL."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from cloud.telemetry import tables
from cloud.telemetry.migrations import STEPS, migrate
from cloud.telemetry.statements import places_of
from shared.errors import StoreError, UsageError

ALLOWED = "give a file, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
BUSY_S = 30  # how long to wait for another process that writes


def parse_store(text: str) -> URL:
    """Parse the value of ``--store``; ``UsageError`` states what is allowed."""
    text = re.sub(r"^postgres://", "postgresql://", text)
    if "://" not in text:
        if not text:
            raise UsageError(f"--store: '' is not allowed; {ALLOWED}")
        return URL.create(DRIVERS["sqlite"], database=text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"--store: {text!r} is no database URL; {ALLOWED}") from None
    kind = url.get_backend_name()
    if kind not in DRIVERS or not url.database:
        raise UsageError(f"--store: {shown(url)} is not allowed; {ALLOWED}")
    return url.set(drivername=DRIVERS[kind])


def shown(url: URL) -> str:
    """Format ``url`` for messages, without its password; for SQLite only the file."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def open_writing(text: str) -> Engine:
    """Open the store, creating it if needed; ``UsageError``, or ``StoreError`` if unreachable."""
    return _opened(parse_store(text), make=True)


def open_reading(text: str) -> Engine:
    """Open an existing store; ``UsageError``, or ``StoreError`` if unreachable."""
    url = parse_store(text)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise UsageError(f"--store: {shown(url)}: there is no such file")
    return _opened(url, make=False)


@contextmanager
def reading(text: str) -> Iterator[Connection]:
    """Connect to an existing store while the block runs; raises as ``open_reading``."""
    engine = open_reading(text)
    try:
        with translated(engine.url), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn errors of the database into ``StoreError``."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(f"--store: {shown(url)}: {cause}") from error


def _opened(url: URL, make: bool) -> Engine:
    with translated(url):
        engine = _engine(url)
        try:
            if make:
                _make(engine)
            _check(engine)
        except BaseException:
            engine.dispose()
            raise
    return engine


def _make(engine: Engine) -> None:
    """Create the tables in an empty database, or migrate those of an earlier release."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # One transaction for all tables, so that one process creates all of them or none.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            mine = inspect(connection).get_table_names()
        else:
            mine = _prepare_schema(connection)
        if not mine:
            tables.metadata.create_all(connection)
            connection.execute(tables.schema.insert(), {"version": tables.SCHEMA_VERSION})
        elif tables.schema.name in mine:
            version = connection.execute(select(tables.schema.c.version)).scalar()
            if version in STEPS:
                migrate(connection, int(version))


def _prepare_schema(connection: Connection) -> list[str]:
    """Create our schema in PostgreSQL, and return the names of its tables.

    The tables of earlier releases are moved there from the default schema. Other processes that
    call this wait until the transaction has ended.
    """
    own = tables.POSTGRES_SCHEMA
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('taper_schema'))")
    names = inspect(connection).get_schema_names()
    if own not in names:  # users without the right to create it rely on an administrator
        connection.exec_driver_sql(f"CREATE SCHEMA {own}")
    # LOCAL: behind a connection pooler, another client may use the connection afterwards.
    connection.exec_driver_sql(f"SET LOCAL search_path TO {own}")
    mine = inspect(connection).get_table_names(own)
    earlier = set(inspect(connection).get_table_names("public")) if "public" in names else set()
    if mine or tables.schema.name not in earlier:
        return mine
    for name in sorted(earlier & {*tables.metadata.tables, "expired"}):
        connection.exec_driver_sql(f"ALTER TABLE public.{name} SET SCHEMA {own}")
    return [tables.schema.name]


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        # A new connection for each use is cheap and never shared between threads.
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_S})
        event.listen(engine, "connect", _tune)
        return engine
    # Positional parameters, since the writer passes plain tuples. No prepared statements, since a
    # pooler in transaction mode may give each transaction another connection.
    engine = create_engine(
        url, paramstyle="format", pool_pre_ping=True, connect_args={"prepare_threshold": None}
    )
    return engine.execution_options(schema_translate_map=places_of(engine.dialect))


def _tune(connection: sqlite3.Connection, record: Any) -> None:  # noqa: ARG001 - SQLAlchemy's
    # WAL: readers and the writer do not block each other. FULL: a commit is on disk when it
    # returns, so neither kill -9 nor a power failure loses what was acknowledged to the broker.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _check(engine: Engine) -> None:
    """Raise ``UsageError`` unless the tables are those of this version."""
    own = places_of(engine.dialect).get(None)
    inspector = inspect(engine)
    place = own if inspector.has_table(tables.schema.name, own) else None
    if place is None and not inspector.has_table(tables.schema.name):
        raise UsageError(f"--store: {shown(engine.url)} is no telemetry store of taper")
    with engine.connect() as connection:
        connection = connection.execution_options(schema_translate_map={None: place})
        version = connection.execute(select(tables.schema.c.version)).scalar()
    if version != tables.SCHEMA_VERSION:
        raise UsageError(
            f"--store: {shown(engine.url)} has schema version {version}, this taper uses "
            f"{tables.SCHEMA_VERSION}; a recorder of this taper brings older stores up to date"
        )
