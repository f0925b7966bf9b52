"""Stores of earlier releases, written by those releases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from cloud.telemetry import queries
from cloud.telemetry.database import open_reading, reading
from cloud.telemetry.records import Appended
from cloud.telemetry.rolled import rolled_totals
from cloud.telemetry.store import Store
from shared.errors import UsageError
from tests.support.postgres import Postgres
from tests.support.telemetry import BEGAN_S, series

HERE = Path(__file__).parent


@pytest.fixture
def old(url: str) -> str:
    """The URL of a store of version 1."""
    return write(url, 1)


@pytest.fixture
def last(url: str) -> str:
    """The URL of a store of version 2."""
    return write(url, 2)


def write(url: str, version: int) -> str:
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            connection.execute((HERE / f"version-{version}.postgresql.sql").read_bytes())
    else:
        with closing(sqlite3.connect(url)) as database:
            database.executescript((HERE / f"version-{version}.sqlite.sql").read_text())
    return url


async def test_a_store_of_the_last_release_goes_on(old: str) -> None:
    with pytest.raises(UsageError, match="schema version 1, this taper uses 4; a recorder"):
        open_reading(old)
    async with Store(old) as store:
        held = {("a", ""): ((1, 7), (9, 9), (12, 30)), ("b", ""): ((3, 3), (25, 25))}
        assert await store.sequences("city") == held
        # Telemetry of the past is a repeat, dropped or not; the present goes on.
        assert await store.append(series("a", [2, 20, 30, 31])) == Appended(1, 3)
    async with Store(old) as store:
        assert (await store.sequences("city"))["a", ""] == ((1, 7), (9, 9), (12, 31))
    with reading(old) as connection:
        a, b = queries.devices(connection, "city")
        assert a.birth is not None
        assert (a.online, a.birth.groups, a.birth.epoch) == (True, ("north",), "")
        assert a.telemetry is not None
        assert (a.telemetry.sequence, a.telemetry.epoch) == (31, "")
        assert a.reported is not None
        assert a.reported.settings.fraction == "0.5"
        assert b.telemetry is not None
        kept = [one.sequence for one in queries.timeline(connection, "city", "a")]
        assert kept == [*range(12, 32)]
        whole = queries.totals(connection, "city")
        assert whole is not None
        assert (whole.messages, whole.first_s) == (21, BEGAN_S + 60 * 12)


async def test_a_store_without_audits_and_rollouts_goes_on(last: str) -> None:
    with pytest.raises(UsageError, match="schema version 2, this taper uses 4; a recorder"):
        open_reading(last)
    async with Store(last) as store:
        assert await store.append(series("a", [30, 31])) == Appended(1, 1)
    with reading(last) as connection:
        whole = queries.totals(connection, "city")
        assert whole is not None
        assert (whole.messages, whole.audited, whole.exit_confidence) == (22, 0, None)
        rolled = rolled_totals(connection, "city")
        assert rolled is not None
        assert (rolled.messages, rolled.agreed) == (22, 0)


async def test_tables_of_somebody_else_in_a_database_do_no_harm(postgres_server: Postgres) -> None:
    postgres_server.clear()
    url = postgres_server.url.replace("postgresql://", "postgres://")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE public.telemetry (reading text)")
        connection.execute("INSERT INTO public.telemetry VALUES ('warm')")
    async with Store(url) as store:
        assert await store.append(series("a", [1, 2])) == Appended(2, 0)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT * FROM public.telemetry").fetchall() == [("warm",)]
        assert connection.execute("SELECT count(*) FROM taper.telemetry").fetchone() == (2,)
