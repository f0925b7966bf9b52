"""Measures how long a recorder's start and a report take on a large telemetry store.

    python -m tests.benchmarks.fleet_store FILE --messages 20000000

fills FILE (SQLite) if it does not exist: telemetry by one INSERT from a generated series, in the
order of the primary key, with values that differ by device and time; then the index, the ranges of
sequence numbers, and the roll-ups as a migration makes them. 10,000 devices send every 20 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Index, event, text

from cloud.telemetry import rollups, tables
from cloud.telemetry.database import open_writing, reading
from cloud.telemetry.report import render
from cloud.telemetry.store import Store

DEVICES = 10_000
MESSAGES = 20_000_000
PERIOD_S = 1200.0
REPEATS = 3
VALUES = {
    "fleet": "'default'", "device": "printf('device-%05d', d)", "session": "1", "sequence": "n",
    "unix_s": "{began_s} + n * {period_s} + d % 60", "period_s": "{period_s}",
    "battery": "0.5 + 0.4 * ((n + d) % 97) / 97.0", "plugged": "(n + d) % 7 = 0",
    "fraction": "0.3", "cloud_fraction": "1.0", "answered_device": "800 + (n * d) % 211",
    "answered_cloud": "200 + (n + d) % 101", "failed": "(n * 7 + d) % 401 = 0",
    "labelled": "0", "right": "0", "payload_bytes": "6000 + n % 500", "energy_j": "3.5",
    "latency_ms": "5.0 + d % 9", "latency_max_ms": "40.0", "reported_version": "1",
    "model": "'mnist-binary'", "model_version": "'0430d73a'", "dropped": "0", "error": "''",
    "epoch": "'e1'", "audited": "40", "agreed": "39", "exits_asked": "1000",
    "exit_confidence": "0.9", "idle_j": "2.0",
    "received_s": "{began_s} + n * {period_s} + d % 60 + 1",
}  # fmt: skip


def fill(path: Path, devices: int, messages: int) -> float:
    """Make a store with so many messages of so many devices; return the seconds it took."""
    began_s = time.monotonic()
    each = messages // devices
    engine = open_writing(str(path))

    @event.listens_for(engine, "connect")
    def hurry(connection: Any, _: object) -> None:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-500000"):
            connection.execute(f"PRAGMA {pragma}")

    engine.dispose()  # connect again, with these
    with engine.begin() as connection:
        index = next(one for one in tables.telemetry.indexes if isinstance(one, Index))
        index.drop(connection)
        _insert(connection, devices, each)
        index.create(connection)
        connection.execute(text("INSERT INTO device SELECT DISTINCT fleet, device, epoch "
                                "FROM telemetry WHERE sequence = 1"))  # fmt: skip
        connection.execute(text("INSERT INTO received SELECT fleet, device, epoch, 1, :last "
                                "FROM device"), {"last": each})  # fmt: skip
        rollups.fill(connection)
    engine.dispose()
    return time.monotonic() - began_s


def _insert(connection: Connection, devices: int, each: int) -> None:
    began_s = time.time() - (each + 1) * PERIOD_S
    names = [column.name for column in tables.telemetry.columns]
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(VALUES[name].format(began_s=began_s, period_s=PERIOD_S) for name in names)
    series = ("WITH RECURSIVE device_number(d) AS (SELECT 1 UNION ALL SELECT d + 1 FROM "
              "device_number WHERE d < :devices), message_number(n) AS (SELECT 1 UNION ALL "
              "SELECT n + 1 FROM message_number WHERE n < :each)")  # fmt: skip
    statement = (f"INSERT INTO telemetry ({columns}) {series} SELECT {values} "
                 "FROM device_number CROSS JOIN message_number")  # fmt: skip
    connection.execute(
        text(statement.replace(":devices", str(devices)).replace(":each", str(each)))
    )


def measure(path: Path) -> dict[str, float]:
    """Return the medians of a recorder's start, and of the slower of two reports, in seconds."""

    async def start() -> None:
        async with Store(str(path)) as store:
            await store.sequences("default")

    def report(since_s: float) -> Callable[[], object]:
        def work() -> object:
            with reading(str(path)) as connection:
                return render(connection, "default", since_s)

        return work

    week_s = time.time() - 7 * 86_400
    day_s = time.time() - 40_000
    return {
        "store_start_s": _median(lambda: asyncio.run(start())),
        "store_report_all_s": _median(report(0.0)),
        "store_report_week_s": _median(report(week_s)),
        "store_report_day_s": _median(report(day_s)),
    }


def _median(work: Callable[[], object]) -> float:
    took = []
    for _ in range(REPEATS):
        began_s = time.perf_counter()
        work()
        took.append(time.perf_counter() - began_s)
    return sorted(took)[REPEATS // 2]


def main() -> None:
    """Fill the store if it is not there, and print the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    given = parser.parse_args()
    if not given.file.exists():
        seconds = fill(given.file, DEVICES, given.messages)
        sys.stdout.write(f"filled in {seconds:.0f} s\n")
    for name, value in measure(given.file).items():
        sys.stdout.write(f"{name:24} {value:.3f}\n")


if __name__ == "__main__":
    main()
