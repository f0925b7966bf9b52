"""Clocks that jump, batteries of the system and simulated ones, charging schedules."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import device.energy.battery
from device.energy.battery import FixedBattery, SystemBattery
from device.energy.charge import Charge
from device.energy.clock import boot_s
from device.energy.recharge import DAY_S, HOUR_S, Mains, NoRecharge, Solar, parse_recharge
from device.energy.simulated_battery import Cell, SimulatedBattery, accepted
from shared.errors import UsageError


@pytest.fixture(autouse=True)
def no_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that lists no supplies: psutil is asked."""
    monkeypatch.setattr(device.energy.battery, "SUPPLIES", Path("/nothing/here"))


def sensor(percent: Any, plugged: bool = False) -> Callable[[], Any]:
    return lambda: SimpleNamespace(percent=percent, power_plugged=plugged)


def broken() -> Any:
    raise OSError("No such device")


def test_boot_clock_does_not_go_back() -> None:
    assert boot_s() <= boot_s()


def test_the_system_battery_tells_charge_and_plug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", sensor(42, True), raising=False)
    assert SystemBattery().charge() == Charge(0.42, plugged=True)


def test_machine_without_battery_counts_as_plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    assert SystemBattery().charge() == Charge(1.0, plugged=True)


@pytest.mark.parametrize("reading", [broken, sensor(math.nan), sensor(None), sensor("full")])
def test_unreadable_battery_is_said_once_and_makes_careful(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reading: Callable[[], Any]
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", reading, raising=False)
    now = [0.0]
    battery = SystemBattery(lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert battery.charge() == Charge(0.5, plugged=False)
            now[0] += 100
    assert len(caplog.records) == 1
    assert "cannot be read" in caplog.text


def test_battery_that_stops_being_readable_keeps_its_last_charge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    battery = SystemBattery(lambda: now[0])
    monkeypatch.setattr(psutil, "sensors_battery", sensor(80), raising=False)
    assert battery.charge().level == 0.8
    monkeypatch.setattr(psutil, "sensors_battery", broken, raising=False)
    assert battery.charge().level == 0.8  # not asked again so soon
    now[0] += 60
    assert battery.charge().level == 0.8


def test_battery_is_asked_again_after_the_clock_went_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    battery = SystemBattery(lambda: now[0])
    monkeypatch.setattr(psutil, "sensors_battery", sensor(80), raising=False)
    battery.charge()
    monkeypatch.setattr(psutil, "sensors_battery", sensor(20), raising=False)
    now[0] = 0.0
    assert battery.charge().level == 0.2


@pytest.mark.parametrize("percent", [-1, 101, math.nan])
def test_fixed_battery_refuses(percent: float) -> None:
    with pytest.raises(UsageError, match="--battery"):
        FixedBattery(percent)


def test_mains_and_solar_energy() -> None:
    mains = Mains(2.0, start_hour=22, hours=8)
    assert mains.energy_j(0, DAY_S) == pytest.approx(2.0 * 8 * HOUR_S)
    assert mains.energy_j(23 * HOUR_S, 25 * HOUR_S) == pytest.approx(2.0 * 2 * HOUR_S)
    assert mains.plugged(23 * HOUR_S)
    assert not mains.plugged(12 * HOUR_S)
    solar = Solar(1.0, clouds=(1.0, 0.5))
    day_j = 24 / math.pi * HOUR_S
    assert solar.energy_j(0, DAY_S) == pytest.approx(day_j)
    assert solar.energy_j(0, 2 * DAY_S) == pytest.approx(1.5 * day_j)
    assert solar.energy_j(0, 6 * HOUR_S) == 0
    assert solar.plugged(12 * HOUR_S)
    assert not solar.plugged(0)
    assert NoRecharge().energy_j(0, DAY_S) == 0


def test_every_kind_of_recharge_is_parsed() -> None:
    assert parse_recharge("none") == NoRecharge()
    assert parse_recharge("solar:50") == Solar(0.05)
    assert parse_recharge("mains:500@20+6") == Mains(0.5, 20, 6)


@pytest.mark.parametrize("text", ["", "solar", "solar:-1", "solar:nan", "mains:1@x+2", "wind:3"])
def test_a_wrong_recharge_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError, match=r"--recharge.*give none, solar"):
        parse_recharge(text)


def test_simulated_battery_spends_and_empties() -> None:
    battery = SimulatedBattery(Cell(100.0, self_discharge_a_month=0.0))
    assert battery.spend(40.0) == 1.0
    assert battery.charge() == Charge(0.6, plugged=False)
    assert battery.spend(120.0) == pytest.approx(0.5)
    assert battery.empty
    assert battery.spend(1.0) == 0.0
    assert battery.spend(0.0) == 1.0
    with pytest.raises(ValueError, match="energy_j"):
        battery.spend(-1.0)


def test_simulated_battery_discharges_itself() -> None:
    battery = SimulatedBattery(Cell(100.0, self_discharge_a_month=0.03))
    battery.advance(30 * DAY_S)
    assert battery.stored_j == pytest.approx(97.0)
    battery.advance(-DAY_S)
    assert battery.now_s == 30 * DAY_S


def test_simulated_battery_charges_less_when_nearly_full() -> None:
    assert accepted(0.5) == 1.0
    assert accepted(0.9) == pytest.approx(0.5)
    assert accepted(1.0) > 0
    cell = Cell(3600.0, self_discharge_a_month=0.0, charge_efficiency=1.0)
    low = SimulatedBattery(cell, Mains(0.1, 0, 24), level=0.2)
    high = SimulatedBattery(cell, Mains(0.1, 0, 24), level=0.9)
    low.advance(HOUR_S)
    high.advance(HOUR_S)
    assert low.stored_j - 720 == pytest.approx(360)
    assert 0 < high.stored_j - 3240 < 200
    high.advance(100 * HOUR_S)
    assert high.stored_j <= cell.capacity_j


def test_forecast_is_what_the_schedule_brings() -> None:
    battery = SimulatedBattery(Cell(1e6, charge_efficiency=0.5), Solar(1.0))
    forecast = battery.forecast(7 * DAY_S)
    assert forecast[-1][0] == 7 * DAY_S
    assert forecast[-1][1] == pytest.approx(0.5 * 7 * 24 / math.pi * HOUR_S)
    assert [j for _, j in forecast] == sorted(j for _, j in forecast)


@pytest.mark.parametrize("capacity", [0, -1, math.nan, math.inf])
def test_a_cell_without_capacity_is_refused(capacity: float) -> None:
    with pytest.raises(UsageError, match="capacity"):
        Cell(capacity)
