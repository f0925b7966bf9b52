"""The recorder's clock, and age that a wrong wall clock does not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.telemetry.arrival import ArrivalClock
from cloud.telemetry.store import Store
from tests.support.telemetry import BEGAN_S, series

YEAR_S = 365 * 86_400.0


def test_the_wall_clock_moves_no_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    wall_s, steady_s = [BEGAN_S], [5.0]
    monkeypatch.setattr("cloud.telemetry.arrival.time.time", lambda: wall_s[0])
    monkeypatch.setattr("cloud.telemetry.arrival.time.monotonic", lambda: steady_s[0])
    clock = ArrivalClock()
    assert clock() == BEGAN_S
    wall_s[0] += YEAR_S
    steady_s[0] += 2
    assert clock() == BEGAN_S + 2
    clock.at_least(BEGAN_S - 100)
    assert clock() == BEGAN_S + 2
    clock.at_least(BEGAN_S + 50)  # an earlier run was ahead
    steady_s[0] += 1
    assert clock() == BEGAN_S + 51


async def test_a_wall_clock_that_is_a_year_ahead_drops_nothing(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    async with Store(url, keep_s=3600, clock=lambda: BEGAN_S) as store:
        await store.append(series("a", range(1, 11)))
    now_s = BEGAN_S + YEAR_S
    async with Store(url, keep_s=3600, clock=lambda: now_s) as store:
        assert await store.sequences("city")  # this one writes the fleet
        assert await store.expire() == 0
        # Minutes 1 to 4 of 10 are an hour old once the recorder has run for that long less 5 min.
        now_s += 3600 - 60 * 5.5
        assert await store.expire() == 4
