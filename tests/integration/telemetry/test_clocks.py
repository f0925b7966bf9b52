"""Clocks that are far ahead, of a device and of the recorder, and devices that begin anew."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select

from cloud.telemetry import tables
from cloud.telemetry.database import reading
from cloud.telemetry.records import Received
from cloud.telemetry.rolled import clock_ahead, rolled_totals, start_of
from cloud.telemetry.rollups import ALL, MINUTE_S
from cloud.telemetry.store import Store
from cloud.telemetry.trail import recent
from shared.fleet.messages import LATEST_UNIX_S, Telemetry
from tests.integration.telemetry.test_export import run
from tests.integration.telemetry.test_report import with_clock
from tests.support.telemetry import BEGAN_S, sent, series

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S


def later(received: Received, seconds: float) -> Received:
    """The same message so much later, by both clocks."""
    assert isinstance(received.message, Telemetry)
    message = replace(received.message, unix_s=received.message.unix_s + seconds)
    return dataclasses.replace(received, message=message, received_s=received.received_s + seconds)


def mad(number: int) -> Received:
    """A message of a device whose clock says the last second that there is."""
    return with_clock(sent("mad", number), LATEST_UNIX_S)


async def test_a_device_whose_clock_is_far_ahead_hides_nothing_of_the_others(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Three days of messages; the first that arrives on the second day is from the mad clock.
    async with Store(url) as store:
        await store.append(series("a", range(1, 101)))
        await store.append([later(mad(1), DAY_S - 120)])
        await store.append([later(sent("a", number), DAY_S) for number in range(101, 201)])
        await store.append([later(sent("a", number), 2 * DAY_S) for number in range(201, 301)])
    since_s = BEGAN_S + DAY_S - 3600
    with reading(url) as connection:
        assert start_of(connection, "city", since_s) < BEGAN_S + 2 * DAY_S
        whole = rolled_totals(connection, "city", start_of(connection, "city", since_s))
        assert whole is not None
        assert whole.answered == 201 * 8
        assert abs(clock_ahead(connection, "city")) < 1
    path = tmp_path / "page.html"
    words = ("report", "--store", url, "--fleet", "city", "-o", str(path))
    assert run(capsys, *words, "--since", "2023-11-15")[0] == 0
    page = path.read_text()
    assert "2023-11-15" in page
    assert "1 came with clocks that are far off" in page


async def test_a_report_on_nothing_but_a_mad_clock_is_written(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Store(url) as store:
        await store.append([mad(1), mad(2)])
    path = tmp_path / "page.html"
    words = ("report", "--store", url, "--fleet", "city", "-o", str(path))
    assert run(capsys, *words)[0] == 0
    assert "9999-12-31 23:59" in path.read_text()


async def test_roll_ups_are_dropped_by_the_usual_clock_of_the_devices(url: str) -> None:
    def minutes() -> int:
        sums = tables.rollup.c
        query = select(func.count()).where(sums.device == ALL, sums.width_s == MINUTE_S)
        with reading(url) as connection:
            return int(connection.execute(query).scalar_one())

    # Simulated devices are a year ahead, one has a mad clock.
    ahead = [with_clock(sent("a", n), BEGAN_S + YEAR_S + 60 * n) for n in range(1, 31)]
    async with Store(url, keep_s=600, clock=lambda: BEGAN_S + 60 * 30) as store:
        await store.append([*ahead, mad(1)])
        await store.expire()
        assert minutes() == 10
    with reading(url) as connection:
        whole = rolled_totals(connection, "city")
        assert whole is not None
        assert whole.messages == 31  # days stay


async def test_an_age_counts_from_the_recorders_clock_if_that_was_ahead(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ahead_s = time.time() + YEAR_S
    messages = [dataclasses.replace(one, received_s=ahead_s - 3600 + 60 * number)
                for number, one in enumerate(series("a", range(1, 61)))]  # fmt: skip
    async with Store(url) as store:
        await store.append(messages)
    path = tmp_path / "fleet.csv"
    words = ("export", "--store", url, "--fleet", "city", "-o", str(path), "--since", "10m")
    assert run(capsys, *words) == (0, f"{path}: 11 rows\n")


async def test_a_device_that_begins_a_new_epoch_is_noted_once(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def of(epoch: str, number: int, received_s: float) -> Received:
        one = sent("a", number, received_s)
        assert isinstance(one.message, Telemetry)
        return dataclasses.replace(one, message=replace(one.message, epoch=epoch))

    async with Store(url) as store:
        await store.append([of("e1", 1, BEGAN_S), sent("b", 1, BEGAN_S)])
    async with Store(url) as store:
        await store.append([of("e2", 1, BEGAN_S + 60), of("e2", 2, BEGAN_S + 61)])
        await store.append([of("e1", 2, BEGAN_S + 62)])  # it waited at the broker
        await store.append([of("e2", 3, BEGAN_S + 63)])
    with reading(url) as connection:
        (noted,) = recent(connection, "city", 10)
    assert (noted.who, noted.target, noted.made_s) == ("device", "a", BEGAN_S + 60)
    assert noted.what == "new epoch e2 after e1: its ledger was lost, restored or copied"
    path = tmp_path / "page.html"
    assert run(capsys, "report", "--store", url, "--fleet", "city", "-o", str(path))[0] == 0
    assert re.search(r"<li>2023-11-14 22:1\d new epoch of a</li>", path.read_text())
