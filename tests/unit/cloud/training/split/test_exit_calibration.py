from __future__ import annotations

import numpy as np
import pytest

from cloud.training.split.exit_calibration import (
    LevelLogits,
    answered_by_exit,
    calibrate,
    confidence,
    harmless_threshold,
    promise,
    rounded_up,
)
from shared.model.exits import ONE, Logits

CLASSES = 4
Floats = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def answers(labels: np.ndarray, skill: float, rng: np.random.Generator) -> Floats:
    """Logits that are right more often the larger ``skill`` is, and more when they are sure."""
    logits = rng.normal(size=(len(labels), CLASSES)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += skill * rng.random(len(labels)).astype(np.float32)
    return logits


def whole(logits: Floats) -> Logits:
    """Logits as the exit head gives them."""
    integers: Logits = np.rint(logits * ONE).astype(np.int64)
    return integers


def level(seed: int, held: int = 3000, test: int = 3000) -> LevelLogits:
    rng = np.random.default_rng(seed)
    held_labels, test_labels = rng.integers(0, CLASSES, held), rng.integers(0, CLASSES, test)
    return LevelLogits(
        held_exit=whole(answers(held_labels, 8, rng)),
        held_cloud=answers(held_labels, 12, rng),
        held_labels=held_labels,
        test_exit=whole(answers(test_labels, 8, rng)),
        test_cloud=answers(test_labels, 12, rng),
        test_labels=test_labels,
    )


def test_what_stays_is_right_no_less_often_than_in_the_cloud() -> None:
    found = level(1)
    made = calibrate([found])
    stays = answered_by_exit(found.held_exit, made["threshold"][0], made["temperature"][0])
    sure = confidence(found.held_exit, made["temperature"][0])
    assert (stays == (sure >= made["threshold"][0])).all()
    head = found.held_exit.argmax(1) == found.held_labels
    cloud = found.held_cloud.argmax(1) == found.held_labels
    assert 100 < stays.sum() < len(stays)
    assert head[stays].sum() >= cloud[stays].sum()
    assert head.mean() < cloud.mean()


def test_the_test_set_keeps_the_promise() -> None:
    kept = 0
    for seed in range(12):
        found = level(seed)
        made = calibrate([found])
        stays = answered_by_exit(found.test_exit, made["threshold"][0], made["temperature"][0])
        right = found.test_exit.argmax(1) == found.test_labels
        kept += bool(right[stays].mean() >= made["promise"][0])
    assert kept >= 11  # the lower end of a 95% interval


def test_a_promise_over_few_samples_is_modest() -> None:
    right = np.ones(60, dtype=np.bool_)
    assert promise(np.ones(60), right, 0.5) == pytest.approx(0.9398, abs=1e-3)
    assert promise(np.ones(60), right, 0.5, promises=6) == pytest.approx(0.8960, abs=1e-3)
    assert promise(np.ones(60), right, 1.5) == 0.0


def test_without_evidence_nothing_stays() -> None:
    sure = np.linspace(0.2, 0.9, 49)
    right = np.ones(49, dtype=np.bool_)
    assert harmless_threshold(sure, right, right) == 1.0
    assert harmless_threshold(np.tile(sure, 3), ~np.tile(right, 3), np.tile(right, 3)) == 1.0


def test_rounding_lets_no_further_sample_stay() -> None:
    for value in np.random.default_rng(0).random(200):
        assert rounded_up(float(value)) >= value
