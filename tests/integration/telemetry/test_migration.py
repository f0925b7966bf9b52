"""A store of the release before epochs and roll-ups, written by that release."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from cloud.telemetry import queries
from cloud.telemetry.database import open_reading, reading
from cloud.telemetry.records import Appended
from cloud.telemetry.store import Store
from shared.errors import UsageError
from tests.support.telemetry import BEGAN_S, series

HERE = Path(__file__).parent


@pytest.fixture
def old(url: str) -> str:
    """The URL of a store of version 1."""
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            connection.execute((HERE / "version-1.postgresql.sql").read_bytes())
    else:
        with closing(sqlite3.connect(url)) as database:
            database.executescript((HERE / "version-1.sqlite.sql").read_text())
    return url


async def test_a_store_of_the_last_release_goes_on(old: str) -> None:
    with pytest.raises(UsageError, match="schema version 1, this taper uses 2; a recorder"):
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
