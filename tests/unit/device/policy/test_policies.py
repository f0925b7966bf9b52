"""Policies in one interface: fixed, steps, linear, and the one that plans; days of simulation."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.energy.charge import Charge
from device.energy.recharge import DAY_S, Solar
from device.energy.simulated_battery import Cell, SimulatedBattery
from device.policy.auto import AutoPolicy, Goal, sustainable_w
from device.policy.operating_points import level_tables
from device.policy.simple import (
    FixedPolicy,
    LinearPolicy,
    Look,
    Policy,
    Situation,
    StepPolicy,
    make_policy,
)
from device.simulate.command import main, verdict
from device.simulate.results import measure, totals
from device.simulate.simulation import MeasuredDevice, Outcome, Workload, dominates, simulate
from shared.energy.hardware import MCU_BLE
from shared.energy.model import EnergyModel
from shared.errors import FractionError, UsageError
from tests.support.clouds import images, tiny_bundle

LEVELS = (0.25, 0.5, 1.0)
TABLES = level_tables(tiny_bundle())
MODEL = EnergyModel(MCU_BLE)


def situation(level: float, stored_j: float | None = None, now_s: float = 0.0) -> Situation:
    return Situation(Charge(level, plugged=False), now_s, stored_j, rate_per_s=5.0)


def auto(lifetime_s: float | None = None, min_accuracy: float | None = None) -> AutoPolicy:
    return AutoPolicy(TABLES, MODEL, Goal(lifetime_s, min_accuracy))


def test_simple_policies_follow_charge_and_plug() -> None:
    assert FixedPolicy(0.4, LEVELS).decide(situation(0.1)).level == 1
    assert LinearPolicy(LEVELS).decide(situation(0.9)).level == 2
    assert LinearPolicy(LEVELS).decide(situation(0.0)).level == 0
    assert [StepPolicy(LEVELS).decide(situation(c)).level for c in (0.9, 0.5, 0.1)] == [2, 1, 0]
    for policy in (LinearPolicy(LEVELS), StepPolicy(LEVELS)):
        assert policy.decide(Situation(Charge(0.1, plugged=True))).level == 2
        assert policy.name in policy.decide(situation(0.5)).reason


@pytest.mark.parametrize("name", ["linear", "step", "fixed:0.5", "0.5"])
def test_policies_by_name(name: str) -> None:
    policy: Policy = make_policy(name, LEVELS, "--policy")
    assert policy.decide(situation(0.5)).level == 1


def test_auto_plans_for_a_goal_and_follows_the_charge_without_one() -> None:
    goal = auto(min_accuracy=0.9)
    assert make_policy("auto", LEVELS, "--policy", lambda: goal) is goal
    assert isinstance(make_policy("auto", LEVELS, "--policy"), LinearPolicy)


@pytest.mark.parametrize("name", ["clever", "fixed:", "fixed:2", "0", "nan", "-1", "1.5", ""])
def test_policies_by_unknown_name(name: str) -> None:
    with pytest.raises((UsageError, FractionError), match="--policy"):
        make_policy(name, LEVELS, "--policy")


@given(st.floats(0, 1), st.lists(st.floats(-0.009, 0.009), min_size=1, max_size=50))
def test_linear_does_not_flicker(charge: float, noise: list[float]) -> None:
    policy = LinearPolicy(LEVELS)
    policy.decide(situation(charge))
    levels = [policy.decide(situation(min(max(charge + shake, 0.0), 1.0))).level for shake in noise]
    assert len(set(levels)) <= 2
    assert sum(a != b for a, b in itertools.pairwise(levels)) <= 1


@pytest.mark.parametrize(("lifetime", "accuracy"), [(0, None), (-1, None), (None, 0), (None, 1.1)])
def test_a_goal_that_is_no_goal_is_refused(lifetime: float | None, accuracy: float | None) -> None:
    with pytest.raises(UsageError, match=r"--lifetime|--min-accuracy"):
        Goal(lifetime, accuracy)


def test_sustainable_power_does_not_spend_tomorrows_sun_tonight() -> None:
    assert sustainable_w(100.0, (), 50.0) == 2.0
    # All of the harvest comes at the end: until then the charge must do.
    assert sustainable_w(100.0, ((50.0, 0.0), (100.0, 900.0)), 100.0) == 2.0
    assert sustainable_w(100.0, ((50.0, 500.0), (100.0, 500.0)), 100.0) == 6.0


def test_auto_spends_what_there_is_and_no_more() -> None:
    rich = auto(DAY_S).decide(situation(1.0, 1e6))
    poor = auto(DAY_S).decide(situation(1.0, 5.0))
    assert rich.level == 2
    assert poor.level == 0
    assert "days to go" in rich.reason
    assert "over budget" in auto(DAY_S).decide(situation(1.0, 0.0)).reason
    assert "\n" not in rich.reason


def test_auto_meets_an_accuracy_as_cheaply_as_it_can() -> None:
    cheap = auto(min_accuracy=0.9).decide(situation(0.5))
    accurate = auto(min_accuracy=0.97).decide(situation(0.5))
    assert (cheap.level, accurate.level) == (0, 2)
    impossible = auto(min_accuracy=0.999).decide(situation(0.5))
    assert impossible.level == 2
    assert "cannot be reached" in impossible.reason


def test_auto_plugged_in_spares_nothing() -> None:
    plugged = Situation(Charge(0.1, plugged=True), stored_j=1.0, rate_per_s=5.0)
    assert auto(DAY_S).decide(plugged).level == 2
    assert auto(min_accuracy=0.9).decide(plugged).level == 2


def test_auto_without_cloud_answers_here() -> None:
    away = Situation(Charge(1.0, plugged=False), stored_j=1e6, rate_per_s=5.0, cloud_away=True)
    decision = auto(DAY_S).decide(away)
    assert decision.exit_threshold == 0
    assert "the cloud is away" in decision.reason


def test_auto_survives_a_clock_that_jumps() -> None:
    policy = auto(DAY_S)
    first = policy.decide(situation(1.0, 50.0, now_s=1000.0))
    back = policy.decide(situation(1.0, 50.0, now_s=-1e9))
    assert back.level == first.level
    ahead = policy.decide(situation(1.0, 50.0, now_s=1e12))  # the lifetime is over
    assert ahead.level == 2


@given(st.floats(0.1, 1e4), st.floats(1e-3, 1e3))
def test_auto_never_oscillates_in_a_constant_situation(stored_j: float, rate: float) -> None:
    policy = auto(DAY_S)
    chosen = set()
    for _ in range(20):
        decision = policy.decide(
            Situation(Charge(0.5, plugged=False), 0.0, stored_j, rate_per_s=rate)
        )
        chosen.add((decision.level, decision.exit_threshold, decision.wait_s))
    assert len(chosen) == 1


@given(st.lists(st.floats(-0.01, 0.01), min_size=2, max_size=60))
def test_auto_does_not_flicker_on_a_noisy_gauge(noise: list[float]) -> None:
    policy = auto(DAY_S)
    levels = [
        policy.decide(situation(0.5, 40.0 * (1 + shake), now_s=10.0 * step))
        for step, shake in enumerate(noise)
    ]
    ways = [(d.level, d.exit_threshold) for d in levels]
    assert sum(a != b for a, b in itertools.pairwise(ways)) <= 2


def test_simulation_plays_measured_results() -> None:
    bundle = tiny_bundle()
    pictures = images(40)
    results = measure(bundle, pictures, np.zeros(40, dtype=np.int64))
    counted = totals(results, (Look(0, 2.0),), 35, 90)
    right = [results[0].cloud_right[(35 + i) % 40] for i in range(90)]
    assert counted.right == sum(right)
    assert counted.stayed == 0
    assert counted.payload_bytes == sum(results[0].payload_bytes[(35 + i) % 40] for i in range(90))
    everything = totals(results, (Look(0, 0.0),), 0, 40)
    assert everything.stayed == 40
    assert everything.payload_bytes == 0


def play(
    name: str, policy: Policy, capacity_j: float, sun: bool = False, **workload_settings: Any
) -> Outcome:
    bundle = tiny_bundle()
    results = measure(bundle, images(40), np.zeros(40, dtype=np.int64))
    battery = SimulatedBattery(Cell(capacity_j), Solar(0.0005) if sun else None)
    workload = Workload(**{"days": 2, "rate_per_s": 1.0, **workload_settings})
    device = MeasuredDevice(TABLES, results, MODEL)
    return simulate(name, policy, device, battery, workload)


def test_auto_lasts_as_long_as_its_goal_says() -> None:
    # Two days take 25.3 J with the whole network and every sample sent, 16.5 J the cheapest way.
    planned = play("auto", auto(2 * DAY_S), 23.0)
    full = play("fixed:1.0", FixedPolicy(1.0, LEVELS), 23.0)
    assert full.life_days < 2
    assert planned.life_days == pytest.approx(2.0, abs=0.02)
    assert planned.answered >= full.answered
    assert not dominates(full, planned)


def test_simulation_with_sun_and_an_empty_battery() -> None:
    dead = play("fixed:1.0", FixedPolicy(1.0, LEVELS), 0.01)
    assert dead.life_days < 0.01
    assert dead.answered < dead.offered
    assert play("fixed:1.0", FixedPolicy(1.0, LEVELS), 20.0, sun=True).answered > 0


def test_telemetry_shortens_a_life() -> None:
    silent = play("fixed:1.0", FixedPolicy(1.0, LEVELS), 23.0)
    telling = play("fixed:1.0", FixedPolicy(1.0, LEVELS), 23.0, telemetry_s=5.0)
    assert telling.life_days < 0.9 * silent.life_days


def test_a_plan_by_history_lasts_with_the_sun_that_it_has_seen() -> None:
    days = 4.0
    known = play("auto", auto(days * DAY_S), 23.0, sun=True, days=days)
    learnt = play("auto", auto(days * DAY_S), 23.0, sun=True, days=days, by_history=True)
    assert learnt.life_days == pytest.approx(days, abs=0.02)
    assert learnt.answered >= 0.98 * known.answered
    assert learnt.delivered >= known.delivered - 0.02


def test_verdict_compares_with_full_and_counts_dominators() -> None:
    outcomes = [Outcome("auto", 7.0, 0.95), Outcome("fixed:1.0", 3.0, 0.96)]
    outcomes += [Outcome("linear", 7.0, 0.94), Outcome("step", 7.0, 0.955)]
    found = verdict(outcomes)
    assert found["auto_life_vs_full"] == pytest.approx(7 / 3)
    assert found["auto_accuracy_loss"] == pytest.approx(1.0)
    assert found["auto_dominated_by"] == ["step"]


def test_the_simulation_writes_numbers_and_a_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figure = tmp_path / "out.json", tmp_path / "out.svg"
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("--days", "1", "--model", "mnist-binary-paper", "--output", str(out)),
                *("--figure", str(figure), "--policy", "auto,linear,fixed:1.0", "--explain"),
            ]
        )
    assert not ended.value.code
    document = json.loads(out.read_text())
    assert [outcome["policy"] for outcome in document["outcomes"]] == [
        "auto",
        "linear",
        "fixed:1.0",
    ]
    assert document["images"] == 200
    assert figure.read_text().startswith("<?xml")
    assert "days to go" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--policy", "clever"], "--policy"),
        (["--policy", ","], "--policy"),
        (["--hardware", "toaster"], "--hardware"),
        (["--recharge", "wind"], "--recharge"),
        (["--lifetime", "soon"], "--lifetime"),
        (["--min-accuracy", "2"], "--min-accuracy"),
        (["--input", "nothing.npy"], "nothing.npy"),
        (["--output", "/nowhere/out.json"], "--output"),
        (["--figure", "/nowhere/out.svg"], "--figure"),
    ],
)
def test_the_simulation_refuses_wrong_flags_in_one_line(
    flags: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--days", "0.1", "--model", "mnist-binary-paper", *flags])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert text in lines[0]


def test_two_fractions_are_a_plan_of_two_looks() -> None:
    policy = make_policy("0.3:1", LEVELS, "--policy")
    assert [look.level for look in policy.decide(situation(0.5)).looks] == [1, 2]
    assert [look.level for look in make_policy("1", LEVELS, "").decide(situation(0.5)).looks] == [2]


@pytest.mark.parametrize("name", ["1:0.3", "0.3:0.3", "0.3:", ":1", "0.3:1:1", "0.3:2", "0.3:x"])
def test_a_second_look_that_is_not_wider_is_refused(name: str) -> None:
    with pytest.raises((UsageError, FractionError), match="--policy"):
        make_policy(name, LEVELS, "--policy")
