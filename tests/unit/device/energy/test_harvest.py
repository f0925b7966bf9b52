"""Solar by the days before instead of by the hour."""

from __future__ import annotations

import pytest

from device.energy.harvest import DAY_S, HOUR_S, HarvestHistory
from device.energy.recharge import Solar


def follow(history: HarvestHistory, solar: Solar, days: float, start_s: float = 0.0) -> float:
    """Observe a battery of 1,000 kJ that a panel charges and 10 mW discharge; the last moment."""
    stored_j, step_s, now_s = 1000.0, 600.0, start_s
    while now_s <= start_s + days * DAY_S:
        history.observe(now_s, stored_j, 0.01 * step_s)
        stored_j += solar.energy_j(now_s, now_s + step_s) - 0.01 * step_s
        now_s += step_s
    return now_s - step_s


@pytest.mark.parametrize("start_s", [0.0, 9.5 * HOUR_S])
def test_yesterdays_sun_is_expected_today(start_s: float) -> None:
    history, solar = HarvestHistory(), Solar(0.05)
    now_s = follow(history, solar, 2.1, start_s)
    for ahead_s, harvest_j in history.forecast(now_s, 5 * DAY_S):
        assert harvest_j == pytest.approx(solar.energy_j(now_s, now_s + ahead_s), rel=0.1, abs=60)
    (*_, (_, whole_j)) = history.forecast(now_s, 5 * DAY_S)
    assert whole_j == pytest.approx(solar.energy_j(0, 5 * DAY_S), rel=0.02)


def test_nothing_is_foretold_before_a_day_is_known() -> None:
    history = HarvestHistory()
    now_s = follow(history, Solar(0.05), 0.8)
    assert history.forecast(now_s, DAY_S) == ()


def test_worse_weather_is_learnt() -> None:
    history, days = HarvestHistory(), Solar(0.05, clouds=(1.0, 1.0, 0.2, 0.2, 0.2))
    now_s = follow(history, days, 5.0)
    (*_, (_, next_j)) = history.forecast(now_s, DAY_S)
    assert next_j == pytest.approx(0.3 * Solar(0.05).energy_j(0, DAY_S), rel=0.1)


def test_clocks_that_jump_and_gaps_harm_nothing() -> None:
    history, solar = HarvestHistory(), Solar(0.05)
    now_s = follow(history, solar, 1.5)
    history.observe(now_s - 10 * DAY_S, 5.0, 0.0)
    history.observe(now_s + 100 * DAY_S, 1e6, 0.0)
    (*_, (_, day_j)) = history.forecast(now_s + 100 * DAY_S, DAY_S)
    assert day_j == pytest.approx(solar.energy_j(0, DAY_S), rel=0.1)
