"""Plans of two looks in policies and simulations."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from device.energy.charge import Charge
from device.policy.auto import AutoPolicy, Goal
from device.policy.operating_points import Conditions, frontier, level_tables, operating_points
from device.policy.simple import Look, Situation
from device.simulate.command import main
from device.simulate.results import measure, totals
from shared.energy.hardware import HARDWARE, MCU_BLE
from shared.energy.model import EnergyModel
from shared.model.bundle import Bundle, make_bundle, write_bundle
from shared.model.exits import NEVER
from shared.model.looks import plans_on_test
from tests.support.clouds import images, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

MODEL = EnergyModel(MCU_BLE)
SITUATION = Situation(Charge(0.5, plugged=False), rate_per_s=5.0)


def with_plans() -> Bundle:
    """A bundle whose second looks cost little and are as good as the widest level."""
    rows = [
        [2, -1, 2.0, 0.0, 0, 0.0, 0.0, 0.0, 0.98, 32.0],
        [0, 2, 2.0, 0.0, 5000, 0.0, 0.0, 0.1, 0.979, 11.2],
        [0, 2, 0.9, 0.4, 5000, 0.5, 0.02, 0.05, 0.977, 6.0],
    ]
    bundle = tiny_bundle()
    extra = {**bundle.metadata.extra, "looks": rows, "payload_bytes": [8.0, 16.0, 32.0]}
    return make_bundle(replace(bundle.metadata, extra=extra), bundle.tensors)


def looking(**goal: Any) -> AutoPolicy:
    bundle = with_plans()
    pinned = goal.pop("pinned", None)
    plans = plans_on_test(bundle)
    return AutoPolicy(level_tables(bundle), MODEL, Goal(**goal), None, pinned, plans)


def test_auto_takes_two_looks_where_they_are_cheaper_at_equal_accuracy() -> None:
    # The widest level alone: 97 % on the test set; what a plan loses to it was measured.
    decision = looking(min_accuracy=0.969).decide(SITUATION)
    assert [look.level for look in decision.looks] == [0, 2]
    assert decision.looks[0].ask_below == 5000
    assert decision.asked == pytest.approx(0.1)
    assert "a second look at 1 for 10%" in decision.reason
    assert "11.2 bytes and 96.90% a sample" in decision.reason
    best = looking(min_accuracy=0.97).decide(SITUATION)
    assert [look.level for look in best.looks] == [2]


def test_auto_keeps_to_a_limit_of_bytes() -> None:
    for limit in (7.0, 11.5, 40.0):
        points = frontier(operating_points(level_tables(with_plans()), MODEL, Conditions()))
        decision = looking(max_bytes=limit).decide(SITUATION)
        sent = float(decision.reason.split(" bytes")[0].split()[-1])
        assert sent <= limit
        alone = max(point.accuracy for point in points if point.payload_bytes <= limit)
        right = re.search(r"and ([0-9.]+)% a sample", decision.reason)
        assert right is not None
        assert float(right[1]) >= 100 * alone - 0.01
    none = looking(max_bytes=0.001, pinned=NEVER).decide(SITUATION)
    assert "0.001 bytes cannot be reached" in none.reason


def test_a_pinned_threshold_leaves_plans_without_exits_or_none() -> None:
    never = looking(min_accuracy=0.967, pinned=NEVER).decide(SITUATION)
    assert [look.exit_threshold for look in never.looks] == [NEVER, NEVER]
    pinned = looking(min_accuracy=0.9, pinned=0.7).decide(SITUATION)
    assert [look.exit_threshold for look in pinned.looks] == [0.7]


def test_the_expected_share_of_second_looks_is_that_of_the_samples_sent() -> None:
    decision = looking(max_bytes=6.5).decide(SITUATION)
    exits = [look for look in decision.looks if look.exit_threshold == 0.9]
    if len(decision.looks) == 2:
        assert exits
        assert decision.asked == pytest.approx(0.05 / 0.48)


def test_simulated_second_looks_are_those_of_the_plan() -> None:
    bundle = with_plans()
    results = measure(bundle, images(40), np.zeros(40, dtype=np.int64))
    looks = (Look(0, NEVER, 0.0, int(np.median(results[0].cloud_margin))), Look(2, NEVER))
    found = totals(results, looks, 0, 40)
    again = results[0].cloud_margin < (looks[0].ask_below or 0)
    assert (found.sent, found.again, found.stayed) == (40, int(again.sum()), 0)
    assert found.second_bytes == results[2].payload_bytes[again].sum()
    right = np.where(again, results[2].cloud_right, results[0].cloud_right)
    assert found.right == right.sum()
    escalating = totals(results, (replace(looks[0], escalate_below=1.0), looks[1]), 0, 40)
    assert (escalating.sent, escalating.again) == (0, 40)


def test_the_plans_are_listed_with_their_energy_on_every_hardware(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_bundle(with_plans(), tmp_path / "tiny.safetensors")
    with pytest.raises(SystemExit, match="0"):
        main(["--plans", "--model", str(tmp_path / "tiny.safetensors")])
    lines = capsys.readouterr().out.splitlines()
    assert all(name in "\n".join(lines) for name in HARDWARE)
    rows = [line.split() for line in lines if "%" in line]
    assert sorted(row[0] for row in rows) == ["0.25", "0.25:1", "0.25:1", "0.5", "1"]
    # The picture, the first look, and a tenth of the samples again.
    one, two = (
        next(row for row in rows if row[:2] == [looks, "-"]) for looks in ("0.25", "0.25:1")
    )
    assert float(one[-4]) < float(two[-4])
    assert two[2:5] == ["1.10", "96.90%", "11.2"]
