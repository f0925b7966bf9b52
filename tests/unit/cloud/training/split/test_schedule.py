from __future__ import annotations

import pytest

from cloud.training.split.budget import Budget, cost_ratio, falling_epochs
from cloud.training.split.schedule import Plan, fall_of, plan
from cloud.training.split.settings import Settings
from tests.support.trainings import QUICK, tiny


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    made = Plan(10, warm_up=1.0, decay=0.4, average=0.1)
    assert made.fall == 6
    assert [made.share(at) for at in (0.0, 0.5, 1.0, 3.0, 6.0)] == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert made.share(8.0) == pytest.approx(0.5)
    assert made.share(10.0) == pytest.approx(0.0)


def test_until_the_shorter_one_falls_a_longer_training_is_the_same() -> None:
    short, long = (plan(Settings(), epochs) for epochs in (30, 60))
    assert short.fall is not None
    points = [step / 7 for step in range(7 * short.fall)]
    assert [short.share(at) for at in points] == [long.share(at) for at in points]


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 97])
def test_the_last_epoch_has_a_falling_rate_and_is_averaged(epochs: int) -> None:
    made = plan(Settings(), epochs)
    assert made.falling(epochs - 1)
    assert made.average_from is not None
    assert made.average_from < epochs


@pytest.mark.parametrize("decay", [0.1, 0.4, 0.75])
@pytest.mark.parametrize("stable", [1, 2, 7, 50])
def test_falling_epochs_belong_to_the_stable_ones_before_them(stable: int, decay: float) -> None:
    assert fall_of(stable + falling_epochs(stable, decay), decay) == stable


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seconds", [40.0, 300.0])
def test_a_training_ends_within_its_budget_and_uses_most_of_it(seconds: float) -> None:
    clock = Clock()
    budget = Budget(seconds, clock)
    ratio = cost_ratio(tiny(), QUICK)
    epochs, done = None, 0
    while not budget.over() and (epochs is None or done < epochs):
        epochs = budget.epochs(done, tiny(), QUICK) if epochs is None else epochs
        falling = epochs is not None and done >= fall_of(epochs, QUICK.decay)
        first = done == 0 or (falling and epochs and done == fall_of(epochs, QUICK.decay))
        took = 1.0 * (ratio if falling else 1.0) + (3.0 if first else 0.0)
        clock.now += took
        budget.spent(took, falling=falling)
        done += 1
    assert clock.now <= 100.0 + seconds
    assert done == epochs
    assert clock.now >= 100.0 + 0.8 * seconds


def test_a_step_with_a_falling_rate_costs_more() -> None:
    assert cost_ratio(tiny(), QUICK) > 1.0
