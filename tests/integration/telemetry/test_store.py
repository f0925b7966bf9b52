"""The telemetry store in a SQLite file and in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import update

from cloud.telemetry import queries, tables
from cloud.telemetry.database import open_reading, open_writing, reading
from cloud.telemetry.records import Appended, Received
from cloud.telemetry.store import Store
from shared.errors import StoreError, UsageError
from shared.fleet.messages import Death, MessageKind, Result, Telemetry, Topic
from tests.support.postgres import Postgres
from tests.support.processes import ROOT, environment
from tests.support.telemetry import BEGAN_S, birth, reported, said, sent, series


async def test_what_goes_in_comes_out(url: str) -> None:
    plain = sent("a", 2).message
    assert isinstance(plain, Telemetry)
    every = replace(plain, plugged=True, error="naïve 'quoted' \"text\"\n", dropped=2**32 - 1)
    topic = Topic("city", "a", MessageKind.TELEMETRY)
    first, last = birth("a", 1, ("north", "east")), birth("a", 2)
    result = Received(Topic("city", "a", MessageKind.RESULT), Result("a", "7", ok=True), 9.0)
    async with Store(url) as store:
        await store.append([sent("a", 1), Received(topic, every, 5.0), sent("b", 7)])
        await store.append([said(last, 6.0), said(first, 7.0), said(Death("a", 1), 8.0), result])
        await store.append([said(reported("a", 4), 10.0), said(reported("b", 1, "1"), 3.0)])
        await store.append([sent("elsewhere", 1, fleet="sea")])
    with reading(url) as connection:
        a, b = queries.devices(connection, "city")
        assert (a.telemetry, a.birth, a.reported) == (every, last, reported("a", 4))
        assert (a.online, a.received_s) == (True, 10.0)
        assert (b.online, b.birth, b.received_s) == (False, None, sent("b", 7).received_s)
        assert queries.timeline(connection, "city", "a") == [sent("a", 1).message, every]
        assert queries.timeline(connection, "city", "a", limit=1) == [every]
        told = [one.message for one in queries.history(connection, "city", "a")]
        assert told == [last, first, Death("a", 1), result.message, reported("a", 4)]
        assert len(queries.history(connection, "city")) == 6
        assert queries.fleets(connection) == ["city", "sea"]
        assert [len(part) for part in queries.rows(connection, "city")] == [3]


async def test_the_same_again_changes_nothing(url: str) -> None:
    batch = [*series("a", range(1, 6)), said(birth("a"), 5.0), said(reported("a", 3), 6.0)]
    async with Store(url) as store:
        assert await store.append(batch) == Appended(5, 0)
        # Twice in one batch, and as a broker brings again what it retains.
        assert await store.append([*batch, sent("a", 6), sent("a", 6)]) == Appended(1, 6)
        assert await store.append([said(birth("a"), 50.0)]) == Appended()
    async with Store(url) as store:
        assert await store.append(batch) == Appended(0, 5)
        assert await store.sequences("city") == {("a", ""): ((1, 6),)}
    with reading(url) as connection:
        assert [one.received_s for one in queries.history(connection, "city")] == [5.0, 6.0]
        (record,) = queries.devices(connection, "city")
        assert record.received_s == sent("a", 6).received_s


async def test_a_new_epoch_begins_its_numbers_again(url: str) -> None:
    def fresh(numbers: Iterable[int]) -> list[Received]:
        return [
            Received(one.topic, replace(one.message, epoch="e2"), one.received_s + 60_000)
            for one in series("a", numbers)
        ]

    async with Store(url) as store:
        await store.append([*series("a", range(1, 31)), said(birth("a", 7), BEGAN_S)])
        assert await store.append(fresh(range(1, 4))) == Appended(3, 0)
        assert await store.append([*fresh([3, 4]), *series("a", [30])]) == Appended(1, 2)
        newer = replace(birth("a"), epoch="e2")
        await store.append([said(newer, BEGAN_S + 60_000)])
        held = {("a", ""): ((1, 30),), ("a", "e2"): ((1, 4),)}
        assert await store.sequences("city") == held
    with reading(url) as connection:
        (record,) = queries.devices(connection, "city")
        assert record.birth == newer
        assert record.telemetry is not None
        assert (record.telemetry.epoch, record.telemetry.sequence) == ("e2", 4)
        births = [one.message for one in queries.history(connection, "city", "a")]
        assert births == [birth("a", 7), newer]
        last = queries.timeline(connection, "city", "a", limit=5)
        assert [(one.epoch, one.sequence) for one in last][-4:] == [("e2", n) for n in range(1, 5)]


async def test_numbers_stay_known_when_telemetry_gets_too_old(url: str) -> None:
    now_s = BEGAN_S
    async with Store(url, keep_s=600, clock=lambda: now_s) as store:
        await store.append([*series("a", [*range(1, 8), 9, *range(12, 31)]), *series("b", [3])])
        await store.append([said(birth("a"), BEGAN_S)])
        before = await store.sequences("city")
        assert before == {("a", ""): ((1, 7), (9, 9), (12, 30)), ("b", ""): ((3, 3),)}
        now_s = BEGAN_S + 60 * 25
        # Minutes 1 to 14 of a and 3 of b are too old, and so is the history.
        assert await store.expire() == 11 + 1 + 1
        assert await store.expire() == 0
        assert await store.sequences("city") == before
        assert await store.append(series("a", [5, 8, 13, 20])) == Appended(1, 3)
        after = {("a", ""): ((1, 9), (12, 30)), ("b", ""): ((3, 3),)}
        assert await store.sequences("city") == after
        now_s += 300
        assert await store.expire() == 1 + 5
        assert await store.sequences("city") == after
    async with Store(url) as store:
        assert await store.sequences("city") == after
        assert await store.append(series("b", [3])) == Appended(0, 1)
    with reading(url) as connection:
        kept = [one.sequence for one in queries.timeline(connection, "city", "a")]
        assert kept == list(range(20, 31))
        # What a device said last stays, however long ago.
        assert queries.devices(connection, "city")[0].birth == birth("a")


async def test_a_writer_drops_nothing_of_another_fleet(url: str) -> None:
    now_s = BEGAN_S
    async with (
        Store(url, keep_s=60, clock=lambda: now_s) as city,
        Store(url, keep_s=1e9, clock=lambda: now_s) as sea,
    ):
        await city.append(series("a", range(1, 6)))
        await sea.append([sent("a", number, fleet="sea") for number in range(1, 6)])
        now_s += 3600
        assert (await city.expire(), await sea.expire()) == (5, 0)
        assert await sea.sequences("sea") == await city.sequences("city") == {("a", ""): ((1, 5),)}
        assert await city.append(series("a", [3])) == Appended(0, 1)
    with reading(url) as connection:
        assert [queries.count_rows(connection, name) for name in ("city", "sea")] == [0, 5]


async def test_sums_and_slices_add_up_what_was_stored(url: str) -> None:
    async with Store(url) as store:
        await store.append([*series("a", range(1, 121)), *series("b", range(1, 61))])
    with reading(url) as connection:
        whole = queries.totals(connection, "city")
        assert whole is not None
        assert (whole.messages, whole.devices, whole.answered_cloud) == (180, 2, 6 * 180)
        assert (whole.accuracy, whole.latency_ms, whole.energy_j) == (0.75, 4.0, 90.0)
        assert queries.totals(connection, "nobody") is None
        only = queries.totals(connection, "city", "b", since_s=BEGAN_S + 60 * 51)
        assert only is not None
        assert (only.messages, only.failed) == (10, 10)
        found = queries.slices(connection, "city", 3600)
        assert sum(one.messages for one in found) == 180
        assert [one.start_s % 3600 for one in found] == [0.0] * len(found)
        assert {one.accuracy for one in found} == {0.75}
        assert {one.devices for one in found} == {1, 2}


async def test_a_server_that_is_away_is_an_error_and_then_all_goes_on(
    postgres_server: Postgres,
) -> None:
    postgres_server.clear()
    async with Store(postgres_server.url) as store:
        await store.append(series("a", [1]))
        postgres_server.stop()
        for _ in range(2):
            with pytest.raises(StoreError, match="--store: postgresql://taper@127"):
                await store.append(series("a", [2]))
        postgres_server.start()
        assert await store.append(series("a", [1, 2])) in (Appended(1, 1), Appended(2, 0))
        assert await store.sequences("city") == {("a", ""): ((1, 2),)}
    with pytest.raises(StoreError, match=r"taper:\*\*\*@127.0.0.1:1/postgres: .*refused"):
        open_writing("postgresql://taper:secret@127.0.0.1:1/postgres")


def test_another_schema_is_refused(url: str) -> None:
    engine = open_writing(url)
    with engine.begin() as connection:
        connection.execute(update(tables.schema).values(version=99))
    engine.dispose()
    for opened in (open_writing, open_reading):
        with pytest.raises(UsageError, match="schema version 99, this taper uses 4"):
            opened(url)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 200)
    with sqlite3.connect(tmp_path / "other") as database:
        database.execute("CREATE TABLE telemetry (x)")
    database.close()
    for given, error, expected in (
        ("", UsageError, "give a file, sqlite:///FILE or postgresql://"),
        ("mysql://a:secret@b/c", UsageError, r"mysql://a:\*\*\*@b/c is not allowed"),
        ("postgresql://", UsageError, "is not allowed"),
        ("http://x:y:z", UsageError, "is no database URL"),
        (str(tmp_path / "text"), StoreError, "not a database"),
        (str(tmp_path / "other"), UsageError, "no telemetry store of taper"),
        (str(tmp_path / "no" / "folder"), StoreError, "unable to open"),
    ):
        with pytest.raises(error, match=expected):
            open_writing(given)
    with pytest.raises(UsageError, match="no such file"):
        open_reading(str(tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()


KILLED = """
import asyncio, os, sys
from cloud.telemetry.store import Store
from tests.support.telemetry import series

async def main():
    async with Store(sys.argv[1]) as store:
        for number in range(1, 1000):
            await store.append(series("a", [number]))
            print(number, flush=True)

asyncio.run(main())
"""


async def test_what_append_returned_from_survives_kill_9(url: str) -> None:
    words = [sys.executable, "-c", KILLED, url]
    running = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    assert running.stdout is not None
    for _ in range(20):
        await running.stdout.readline()
    running.kill()
    rest = (await running.stdout.read()).splitlines()
    await running.wait()
    last = int(rest[-1]) if rest else 20
    async with Store(url) as store:
        (held,) = (await store.sequences("city"))["a", ""]
    assert held[0] == 1
    assert held[1] in (last, last + 1)


async def test_reading_and_writing_at_the_same_time(url: str) -> None:
    async with Store(url) as store:
        await store.append(series("a", range(1, 3001)))
        with reading(url) as connection:
            part = next(iter(queries.rows(connection, "city")))
            appended = await asyncio.wait_for(store.append(series("a", range(3001, 3011))), 10)
            assert appended.stored == 10
            assert Telemetry(*part[0][1:-1]) == sent("a", 1).message
