"""A store behind PgBouncer in transaction mode: every transaction may have another connection."""

from __future__ import annotations

import asyncio

from cloud.telemetry import queries
from cloud.telemetry.database import reading
from cloud.telemetry.records import Appended
from cloud.telemetry.store import Store
from tests.support.postgres import Postgres, pgbouncer
from tests.support.telemetry import BEGAN_S, birth, said, sent, series


async def test_a_store_behind_a_pooler_is_made_written_and_read(postgres_server: Postgres) -> None:
    postgres_server.clear()
    with pgbouncer(postgres_server) as url:
        async with Store(url) as city, Store(url) as sea:
            await city.append([said(birth("a", groups=("north",)), BEGAN_S)])
            # More statements of a kind than after which drivers prepare them.
            for number in range(1, 21):
                done = await asyncio.gather(
                    city.append(series("a", [number])),
                    sea.append([sent("x", number, fleet="sea")]),
                )
                assert list(done) == [Appended(1, 0), Appended(1, 0)]
            assert await city.append(series("a", range(1, 21))) == Appended(0, 20)
        with reading(url) as connection:
            assert queries.fleets(connection) == ["city", "sea"]
            assert queries.devices(connection, "city")[0].birth == birth("a", groups=("north",))
            parts = list(queries.rows(connection, "city"))
            assert sum(map(len, parts)) == 20
