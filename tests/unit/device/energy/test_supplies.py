"""Batteries of the field: what Linux lists, hats by a command or a file, plug-ins."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import device.energy.battery
from device.energy.battery import ReadBattery, SystemBattery
from device.energy.charge import Charge
from device.energy.field_batteries import (
    Background,
    parse_charge,
    read_command,
    read_file,
    read_plugin,
)
from device.energy.supplies import read_supplies
from device.split.settings import ClientSettings
from device.split.steering import battery_of
from shared.errors import UsageError


def supply(folder: Path, name: str, **files: object) -> None:
    (folder / name).mkdir(parents=True)
    for key, value in files.items():
        (folder / name / key).write_text(f"{value}\n")


def test_a_wireless_mouse_is_not_the_machines_battery(tmp_path: Path) -> None:
    mouse = {"type": "Battery", "scope": "Device", "capacity": 5, "status": "Discharging"}
    supply(tmp_path, "hidpp_battery_0", **mouse)
    assert read_supplies(tmp_path) is None
    supply(tmp_path, "BAT0", type="Battery", capacity=80, status="Discharging")
    assert read_supplies(tmp_path) == Charge(0.8, plugged=False)


def test_two_batteries_count_by_their_size(tmp_path: Path) -> None:
    full = {"type": "Battery", "status": "Discharging", "energy_full": 30_000_000}
    supply(tmp_path, "BAT0", **full, energy_now=30_000_000)
    half = {"type": "Battery", "status": "Discharging", "energy_full": 10_000_000}
    supply(tmp_path, "BAT1", **half, energy_now=0)
    assert read_supplies(tmp_path) == Charge(0.75, plugged=False)


@pytest.mark.parametrize(
    ("status", "online", "plugged"),
    [
        ("Not charging", "1", True),  # kept below full, to last longer
        ("Not charging", "0", False),
        ("Charging", "1", True),
        ("Full", "1", True),
        ("Discharging", "1", True),  # more is drawn than the plug gives
        ("Discharging", "0", False),
        ("Charging", None, True),
        ("Full", None, True),
        ("Not charging", None, False),
        ("Unknown", None, False),
    ],
)
def test_plugged_in_is_what_the_mains_say(
    tmp_path: Path, status: str, online: str | None, plugged: bool
) -> None:
    supply(tmp_path, "BAT0", type="Battery", capacity=60, status=status)
    if online is not None:
        supply(tmp_path, "AC", type="Mains", online=online)
    assert read_supplies(tmp_path) == Charge(0.6, plugged)


def test_an_empty_slot_is_no_battery_and_a_broken_one_is_said(tmp_path: Path) -> None:
    supply(tmp_path, "BAT0", type="Battery", present=0)
    assert read_supplies(tmp_path) is None
    supply(tmp_path, "BAT1", type="Battery", present=1, capacity="nan")
    with pytest.raises(ValueError, match="charge nan"):
        read_supplies(tmp_path)


@pytest.mark.parametrize(("needed", "lines"), [(True, 1), (False, 0)])
def test_no_battery_is_said_once_where_one_is_needed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    needed: bool,
    lines: int,
) -> None:
    monkeypatch.setattr(device.energy.battery, "SUPPLIES", tmp_path)
    now = [0.0]
    battery = SystemBattery(lambda: now[0], needed)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert battery.charge() == Charge(1.0, plugged=True)
            now[0] += 100
    assert caplog.text.count("has no battery") == lines


@pytest.mark.parametrize(
    ("text", "charge"),
    [
        ("57", Charge(0.57, plugged=False)),
        ("57.5 %\n", Charge(0.575, plugged=False)),
        ("57% charging", Charge(0.57, plugged=True)),
        ("100 Full", Charge(1.0, plugged=True)),
        ("3 discharging", Charge(0.03, plugged=False)),
        ('{"percent": 57, "plugged": true}', Charge(0.57, plugged=True)),
        ('{"percent": 57}', Charge(0.57, plugged=False)),
    ],
)
def test_a_charge_in_words(text: str, charge: Charge) -> None:
    assert parse_charge(text) == charge


@pytest.mark.parametrize("text", ["", "full", "101", "-1", "nan", "50 perhaps", "{}", "{"])
def test_words_that_are_no_charge(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        parse_charge(text)


def test_a_file_is_read_again_and_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, now = tmp_path / "charge", [0.0]
    path.write_text("80")
    battery = ReadBattery(read_file(path), lambda: now[0])
    assert battery.charge().level == 0.8
    path.write_text("79 charging")
    now[0] += 6
    assert battery.charge() == Charge(0.79, plugged=True)
    path.write_text("what")
    now[0] += 6
    assert battery.charge() == Charge(0.79, plugged=True)
    assert "--battery-file" in caplog.text


def test_a_command_is_asked_beside_the_work(tmp_path: Path) -> None:
    script = tmp_path / "hat.py"
    script.write_text("print('42 charging')")
    read = Background(read_command(f"{sys.executable} {script}"))
    assert ReadBattery(read).charge() == Charge(0.42, plugged=True)
    begin_s = time.perf_counter()
    assert read() == Charge(0.42, plugged=True)
    assert time.perf_counter() - begin_s < 1


@pytest.mark.parametrize(
    ("command", "said"),
    [("no-such-program", "No such file"), (f"{sys.executable} -c 1/0", "ends with 1")],
)
def test_a_command_that_fails_leaves_the_policy_careful(
    command: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert ReadBattery(Background(read_command(command))).charge() == Charge(0.5, plugged=False)
    assert said in caplog.text


def test_a_command_that_is_none_is_refused() -> None:
    for command in ("", "'"):
        with pytest.raises(UsageError, match="--battery-command"):
            read_command(command)


class Hat:
    """What a package of a hat's maker offers."""

    def charge(self) -> Charge:
        return Charge(0.33, plugged=True)


def test_a_plug_in_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="hat", load=lambda: Hat)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: (point,))
    assert read_plugin("hat")() == Charge(0.33, plugged=True)
    with pytest.raises(UsageError, match="'other' is not installed; installed are hat"):
        read_plugin("other")


def test_settings_choose_one_battery(tmp_path: Path) -> None:
    (tmp_path / "charge").write_text("12")
    settings = ClientSettings(battery_file=tmp_path / "charge")
    assert battery_of(settings).charge() == Charge(0.12, plugged=False)
    with pytest.raises(UsageError, match="give one of them"):
        ClientSettings(battery_percent=5, battery_command="x")
