from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cloud.training.split.pairs import draw_pairs, macs
from cloud.training.split.settings import PAIR_RULES, Settings
from shared.errors import UsageError
from shared.model.architecture import Architecture
from tests.support.trainings import tiny


def drawn(
    rule: str, *, falling: bool = True, architecture: Architecture | None = None
) -> list[set[tuple[int, int]]]:
    generator = random.Random(1)
    settings = Settings(pairs=rule)
    made = architecture or tiny()
    draws = [draw_pairs(made, settings, generator, falling=falling) for _ in range(50)]
    assert all(pairs[0][0] == len(made.device_levels) - 1 for pairs in draws)
    assert all(pairs[0][1][0] == len(made.cloud_levels) - 1 for pairs in draws)
    return [{(level, c) for level, found in pairs for c in found} for pairs in draws]


@pytest.mark.parametrize("rule", PAIR_RULES)
def test_the_widest_and_the_narrowest_are_among_them(rule: str) -> None:
    assert all({(1, 1), (0, 0)} <= pairs for pairs in drawn(rule))


def test_staged_trains_two_pairs_until_the_rate_falls() -> None:
    draws = drawn("staged", falling=False)
    assert all(len(pairs) <= 2 for pairs in draws)
    assert set().union(*draws) == {(d, c) for d in range(2) for c in range(2)}


@pytest.mark.parametrize("rule", PAIR_RULES)
def test_one_cloud_level_is_enough(rule: str) -> None:
    draws = drawn(rule, architecture=tiny(cloud_levels=(1.0,)))
    assert set().union(*draws) == {(0, 0), (1, 0)}


@pytest.mark.parametrize("rule", PAIR_RULES)
def test_one_device_level_is_enough(rule: str) -> None:
    draws = drawn(rule, architecture=replace(tiny(), device_levels=(1.0,)))
    assert set().union(*draws) == {(0, 0), (0, 1)}


def test_wider_pairs_are_more_work() -> None:
    assert macs(tiny(), ((1, (1,)),)) > macs(tiny(), ((0, (0,)),))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="--pairs: 'all' is unknown; known: staged"):
        Settings(pairs="all")
    with pytest.raises(UsageError, match="--augment"):
        Settings(augment="rotate")
