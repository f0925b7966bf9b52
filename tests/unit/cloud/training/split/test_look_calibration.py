from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cloud.training.split.look_calibration import LevelAnswers, measure, plans_of
from shared.errors import BundleError
from shared.model.bundle import make_bundle
from shared.model.looks import NO_LOOK, cheapest, read_plans, to_rows
from tests.support.clouds import tiny_bundle

MACS = (10, 20, 40)


def answers(seed: int = 0, count: int = 2000) -> list[LevelAnswers]:
    """Three levels: wider ones are right more often, and all are unsure where they are wrong."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(count)
    levels = []
    for level, macs in enumerate(MACS):
        room = 1.2 + level - 2 * difficulty
        right = (room > 0) | (rng.random(count) < 0.3)
        margin = np.where(room > 0, room, -room / 5).astype(np.float32)
        levels.append(LevelAnswers(right, margin, np.full(count, 8 * (level + 1)), macs))
    return levels


def test_a_plan_asks_below_its_margin_and_pays_for_both_looks() -> None:
    levels = answers()
    plan, right = measure(levels, 0, 2, 0.3)
    asked = levels[0].margin < np.float32(0.3)
    assert plan.asked == asked.mean()
    assert plan.looks == 1 + plan.asked
    assert (right == np.where(asked, levels[2].right, levels[0].right)).all()
    assert plan.payload_bytes == pytest.approx(8 + 24 * plan.asked)
    assert plan.device_macs == pytest.approx(10 + 40 * plan.asked)


def test_one_look_is_a_plan_too() -> None:
    plan, right = measure(answers(), 1, NO_LOOK, 9.0)
    assert (plan.asked, plan.ask_below, plan.payload_bytes, plan.device_macs) == (0, 0, 16, 20)
    assert plan.accuracy == right.mean()


def test_no_plan_is_beaten_by_another_one() -> None:
    plans = plans_of(answers())
    assert any(plan.second == NO_LOOK for plan in plans)
    assert any(plan.second != NO_LOOK for plan in plans)
    for one in plans:
        for other in plans:
            better = other.accuracy >= one.accuracy and other.payload_bytes <= one.payload_bytes
            assert other == one or not (better and other.device_macs <= one.device_macs)


def test_two_looks_are_cheaper_than_one_at_equal_accuracy() -> None:
    levels = answers()
    full, _ = measure(levels, 2, NO_LOOK, 0.0)
    plan = cheapest(plans_of(levels), full.accuracy - 0.02)
    assert plan.second != NO_LOOK
    assert plan.payload_bytes < full.payload_bytes
    assert cheapest(plans_of(levels), 1.0).accuracy == max(p.accuracy for p in plans_of(levels))


def test_plans_are_read_as_they_were_written() -> None:
    bundle = tiny_bundle()
    plans = plans_of(answers())
    extra = {"looks": to_rows(plans)}
    written = make_bundle(replace(bundle.metadata, extra=extra), bundle.tensors)
    assert read_plans(written) == tuple(plans)
    assert read_plans(bundle) == ()


@pytest.mark.parametrize(
    "rows",
    [
        7,
        [7],
        [[0, 1]],
        [[0, 3, 1.0, 0.5, 0.9, 10.0, 10.0]],
        [[1, 0, 1.0, 0.5, 0.9, 10.0, 10.0]],
        [[0.5, 1, 1.0, 0.5, 0.9, 10.0, 10.0]],
        [[0, 1, -1.0, 0.5, 0.9, 10.0, 10.0]],
        [[0, 1, float("nan"), 0.5, 0.9, 10.0, 10.0]],
    ],
)
def test_plans_that_cannot_be_used_are_refused(rows: object) -> None:
    bundle = tiny_bundle()
    broken = make_bundle(replace(bundle.metadata, extra={"looks": rows}), bundle.tensors)
    with pytest.raises(BundleError, match="plans of looks cannot be read"):
        read_plans(broken)
