"""What a batch is expected to cost, before and after batches have run."""

from __future__ import annotations

import pytest

from cloud.models.costs import CostModel
from tests.support.clouds import tiny_architecture

FIXED_S = 20e-6
LEVELS, CLOUD_LEVELS = 3, 2


@pytest.fixture
def costs() -> CostModel:
    return CostModel(tiny_architecture(), FIXED_S)


def test_the_first_guess_grows_with_levels_and_samples(costs: CostModel) -> None:
    for level in range(LEVELS):
        narrow, wide = costs.by_cloud_level(level)
        assert 0 < narrow < wide
    assert costs.batch_s(0, 0, 0) == FIXED_S
    assert costs.batch_s(2, 1, 8) == pytest.approx(FIXED_S + 8 * costs.sample_s(2, 1))
    assert costs.sample_s(0, 1) < costs.sample_s(2, 1)


def test_what_ran_first_is_believed_and_the_rest_follows_in_proportion(costs: CostModel) -> None:
    guessed = costs.sample_s(0, 0) / costs.sample_s(2, 1)
    costs.learn(2, 1, 10, FIXED_S + 10 * 1e-3)
    assert costs.sample_s(2, 1) == pytest.approx(1e-3)
    assert costs.sample_s(0, 0) == pytest.approx(guessed * 1e-3)


def test_what_was_measured_does_not_follow_others(costs: CostModel) -> None:
    costs.learn(0, 0, 10, FIXED_S + 10 * 1e-3)
    costs.learn(2, 1, 10, FIXED_S + 10 * 5e-3)
    assert costs.sample_s(0, 0) == pytest.approx(1e-3)


def test_repeats_converge(costs: CostModel) -> None:
    costs.learn(1, 1, 1, FIXED_S + 1e-3)
    for _ in range(100):
        costs.learn(1, 1, 4, FIXED_S + 4 * 2e-3)
    assert costs.sample_s(1, 1) == pytest.approx(2e-3, rel=0.01)


def test_one_batch_that_lost_the_processor_says_little(costs: CostModel) -> None:
    costs.learn(1, 1, 1, FIXED_S + 1e-3)
    costs.learn(1, 1, 1, 10.0)
    assert costs.sample_s(1, 1) <= 1.3e-3 + 1e-9


def test_a_batch_faster_than_its_fixed_part_costs_something(costs: CostModel) -> None:
    costs.learn(1, 1, 1, FIXED_S / 2)
    assert costs.sample_s(1, 1) == pytest.approx(0.1 * FIXED_S / 2)
