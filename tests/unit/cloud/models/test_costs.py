"""Predicted times of batches, before and after some have run."""

from __future__ import annotations

import random

import pytest

from cloud.models.served import macs_by_level
from cloud.native import RUN_FIXED_S, CostModel, LinearFit
from tests.support.clouds import tiny_architecture

LEVELS, CLOUD_LEVELS = 3, 2


@pytest.fixture
def costs() -> CostModel:
    return CostModel(macs_by_level(tiny_architecture()))


def test_the_first_guess_grows_with_levels_and_samples(costs: CostModel) -> None:
    for level in range(LEVELS):
        narrow, wide = (costs.sample_s(level, c) for c in range(CLOUD_LEVELS))
        assert 0 < narrow < wide
    assert costs.run_s(0, 0, 0) == RUN_FIXED_S
    assert costs.run_s(2, 1, 8) == pytest.approx(RUN_FIXED_S + 8 * costs.sample_s(2, 1))
    assert costs.sample_s(0, 1) < costs.sample_s(2, 1)


def test_what_ran_first_is_believed_and_the_rest_follows_in_proportion(costs: CostModel) -> None:
    guessed = costs.sample_s(0, 0) / costs.sample_s(2, 1)
    costs.learn_run(2, 1, 10, RUN_FIXED_S + 10 * 1e-3)
    assert costs.sample_s(2, 1) == pytest.approx(1e-3, rel=0.01)
    assert costs.sample_s(0, 0) == pytest.approx(guessed * 1e-3, rel=0.01)


def test_what_was_measured_does_not_follow_others(costs: CostModel) -> None:
    costs.learn_run(0, 0, 10, RUN_FIXED_S + 10 * 1e-3)
    costs.learn_run(2, 1, 10, RUN_FIXED_S + 10 * 5e-3)
    assert costs.sample_s(0, 0) == pytest.approx(1e-3, rel=0.01)


def test_estimates_converge_to_repeated_measurements(costs: CostModel) -> None:
    costs.learn_run(1, 1, 1, RUN_FIXED_S + 1e-3)
    for _ in range(200):
        costs.learn_run(1, 1, 4, RUN_FIXED_S + 4 * 2e-3)
    assert costs.run_s(1, 1, 4) == pytest.approx(RUN_FIXED_S + 4 * 2e-3, rel=0.01)


def test_one_batch_that_lost_the_processor_says_little() -> None:
    fit = LinearFit(1e-5, 1e-5)
    for _ in range(50):
        fit.learn(8, 1e-3)
    fit.learn(8, 10.0)
    assert fit.seconds(8) <= 1.2e-3


def test_fixed_and_per_sample_time_are_told_apart() -> None:
    random.seed(0)
    for fixed_s, sample_s in ((5e-6, 4e-6), (2e-4, 1e-6), (1e-7, 2e-5)):
        fit = LinearFit(RUN_FIXED_S, 1e-6)
        for _ in range(300):
            samples = random.choice((1, 2, 8, 32))
            fit.learn(samples, (fixed_s + samples * sample_s) * random.uniform(0.95, 1.05))
        for samples in (1, 8, 64):
            assert fit.seconds(samples) == pytest.approx(fixed_s + samples * sample_s, rel=0.15)


def test_a_batch_faster_than_the_guess_of_its_fixed_part_makes_large_ones_no_bargain() -> None:
    fit = LinearFit(RUN_FIXED_S, 1e-9)
    for _ in range(20):
        fit.learn(1, RUN_FIXED_S / 4)
    assert fit.seconds(64) >= 64 * RUN_FIXED_S / 4 / 3


def test_each_encoding_and_level_has_a_cost_of_its_own(costs: CostModel) -> None:
    costs.learn_decode(1, 0, 8, 1e-6)
    costs.learn_decode(3, 0, 8, 1e-3)
    costs.learn_decode(3, 2, 8, 4e-3)
    found = [costs.decode_s(encoding, level, 8) for encoding, level in ((1, 0), (3, 0), (3, 2))]
    assert found == pytest.approx([1e-6, 1e-3, 4e-3], rel=0.05)
