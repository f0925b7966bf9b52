from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from cloud.training.split.look_calibration import (
    MOST,
    Choice,
    LevelAnswers,
    look_tables,
    measure,
    plans_of,
)
from shared.errors import BundleError
from shared.model.bundle import make_bundle
from shared.model.exits import ONE, margin_threshold
from shared.model.looks import (
    NO_LOOK,
    ask_table,
    cheapest,
    plans_on_test,
    read_payloads,
    read_plans,
)
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
        margin = (ONE * np.where(room > 0, room, -room / 5)).astype(np.int64)
        levels.append(LevelAnswers(right, margin, np.full(count, 8 * (level + 1)), macs))
    return levels


def test_a_plan_asks_below_its_margin_and_pays_for_both_looks() -> None:
    levels = answers()
    plan, right = measure(levels, Choice(0, 2, 3 * ONE // 10))
    asked = levels[0].margin < 3 * ONE // 10
    assert plan.asked == asked.mean()
    assert plan.looks == 1 + plan.asked
    assert (right == np.where(asked, levels[2].right, levels[0].right)).all()
    assert plan.payload_bytes == pytest.approx(8 + 24 * plan.asked)
    assert plan.device_macs == pytest.approx(10 + 40 * plan.asked)


def test_one_look_is_a_plan_too() -> None:
    plan, right = measure(answers(), Choice(1))
    assert (plan.asked, plan.ask_below, plan.payload_bytes, plan.device_macs) == (0, 0, 16, 20)
    assert plan.accuracy == right.mean()


def test_no_plan_is_beaten_by_another_one() -> None:
    plans = plans_of(answers())
    assert any(plan.second == NO_LOOK for plan in plans)
    assert any(plan.second != NO_LOOK for plan in plans)
    for one in plans[1:]:  # the first is what the others are compared with
        for other in plans:
            better = other.accuracy >= one.accuracy and other.payload_bytes <= one.payload_bytes
            assert other == one or not (better and other.device_macs <= one.device_macs)


def test_two_looks_are_cheaper_than_one_at_equal_accuracy() -> None:
    levels = answers()
    full, _ = measure(levels, Choice(2))
    plan = cheapest(plans_of(levels), full.accuracy - 0.02)
    assert plan.second != NO_LOOK
    assert plan.payload_bytes < full.payload_bytes
    assert cheapest(plans_of(levels), 1.0).accuracy == max(p.accuracy for p in plans_of(levels))


def test_plans_are_read_as_they_were_written() -> None:
    bundle = tiny_bundle()
    plans = plans_of(answers())
    written = make_bundle(replace(bundle.metadata, extra=look_tables(answers())), bundle.tensors)
    for read, plan in zip(read_plans(written), plans, strict=True):
        assert astuple(read)[:-1] == pytest.approx(astuple(plan)[:-1], abs=1e-4)
        macs = float(bundle.architecture.device_macs(plan.first))
        if plan.second != NO_LOOK:
            macs += read.asked * bundle.architecture.device_macs(plan.second)
        assert read.device_macs == macs
    assert read_payloads(written) == (8, 16, 24)
    assert read_plans(bundle) == ()
    assert read_payloads(bundle) is None


@pytest.mark.parametrize("payloads", [7, [1.0], [1.0, 2.0, "x"], [1.0, 2.0, -3.0]])
def test_payloads_that_cannot_be_used_are_refused(payloads: object) -> None:
    bundle = tiny_bundle()
    extra = {"payload_bytes": payloads}
    broken = make_bundle(replace(bundle.metadata, extra=extra), bundle.tensors)
    with pytest.raises(BundleError, match="payloads cannot be read"):
        read_payloads(broken)


def with_exits() -> list[LevelAnswers]:
    """The levels of ``answers`` with an exit head that is sure of the easy ones."""
    return [
        replace(
            level,
            exit_right=level.right,
            exit_margin=(level.margin * 2),
            exit_threshold=0.97,
        )
        for level in answers()
    ]


def test_what_the_exit_head_is_sure_of_is_not_sent_and_what_is_unclear_is_sent_once() -> None:
    levels = with_exits()
    plan, right = measure(levels, Choice(0, 2, ONE // 2, 0.9, 0.4))
    margin = levels[0].exit_margin
    assert margin is not None
    stays = margin >= margin_threshold(0.9, 1.0)
    escalated = margin < margin_threshold(0.4, 1.0)
    asked = ~stays & ~escalated & (levels[0].margin < ONE // 2)
    assert (plan.stays, plan.escalated, plan.asked) == (
        stays.mean(),
        escalated.mean(),
        asked.mean(),
    )
    again = asked | escalated
    assert (right == np.where(again, levels[2].right, levels[0].right)).all()
    assert plan.payload_bytes == pytest.approx(8 * (~stays & ~escalated).mean() + 24 * again.mean())
    assert plan.device_macs == pytest.approx(10 + 40 * again.mean())


def test_a_bundle_lists_few_plans_with_and_without_exits() -> None:
    plans = plans_of(with_exits())
    assert 2 <= len(plans) <= MOST
    assert {plan.has_exit for plan in plans} == {True, False}
    assert len(plans_of(with_exits(), most=3)) == 3


def test_a_plan_is_expected_to_lose_on_the_test_set_what_it_lost_on_the_validation_split() -> None:
    bundle = tiny_bundle()  # 97 % at the widest level, on the test set
    written = make_bundle(replace(bundle.metadata, extra=look_tables(answers())), bundle.tensors)
    full = read_plans(written)[0]
    for plan in plans_on_test(written):
        held = next(p for p in read_plans(written) if p.ask_below == plan.ask_below)
        assert 0.97 - plan.accuracy == pytest.approx(full.accuracy - held.accuracy)
    assert plans_on_test(bundle) == ()


def test_a_server_asks_by_itself_below_the_margin_of_the_cheapest_good_plan() -> None:
    bundle = tiny_bundle()
    rows = [
        [0, 2, 2.0, 0.0, 500, 0.0, 0.0, 0.1, 0.95, 10.0],
        [0, 2, 2.0, 0.0, 700, 0.0, 0.0, 0.2, 0.9695, 20.0],
        [0, 2, 2.0, 0.0, 900, 0.0, 0.0, 0.6, 0.97, 30.0],
    ]
    written = make_bundle(replace(bundle.metadata, extra={"looks": rows}), bundle.tensors)
    # No plan goes from the first level to the second: it takes the margin of the one to the third.
    assert ask_table(written) == [[0, 700, 700], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "rows",
    [
        7,
        [7],
        [[0, 1]],
        [[0, 1, 1.0, 0.5, 0.9, 10.0, 10.0]],
        [[0, 3, 2.0, 0.0, 100, 0.0, 0.0, 0.5, 0.9, 10.0]],
        [[1, 0, 2.0, 0.0, 100, 0.0, 0.0, 0.5, 0.9, 10.0]],
        [[0.5, 1, 2.0, 0.0, 100, 0.0, 0.0, 0.5, 0.9, 10.0]],
        [[0, 1, 2.0, 0.0, 100.5, 0.0, 0.0, 0.5, 0.9, 10.0]],
        [[0, 1, 2.0, 0.0, -1, 0.0, 0.0, 0.5, 0.9, 10.0]],
        [[0, 1, 2.0, 0.0, 2**63, 0.0, 0.0, 0.5, 0.9, 10.0]],
        [[0, 1, 2.0, 0.0, 100, 0.0, 0.0, float("nan"), 0.9, 10.0]],
        [[0, 1, "2", 0.0, 100, 0.0, 0.0, 0.5, 0.9, 10.0]],
    ],
)
def test_plans_that_cannot_be_used_are_refused(rows: object) -> None:
    bundle = tiny_bundle()
    broken = make_bundle(replace(bundle.metadata, extra={"looks": rows}), bundle.tensors)
    with pytest.raises(BundleError, match="plans of looks cannot be read"):
        read_plans(broken)
