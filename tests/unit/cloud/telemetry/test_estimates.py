"""Shares with intervals, and drift of devices from their past."""

from __future__ import annotations

import random

import pytest

from cloud.telemetry.estimates import FEWEST_DEVICES, drift, exit_accuracy, share
from cloud.telemetry.sums import Sums


def test_the_interval_of_a_share_covers_it_as_often_as_it_says() -> None:
    chance = random.Random(1)
    truth, covered = 0.95, 0
    for _ in range(1000):
        found = share(sum(chance.random() < truth for _ in range(200)), 200)
        assert found is not None
        covered += found.low <= truth <= found.high
    assert 930 <= covered <= 980


def test_without_audits_nothing_is_claimed() -> None:
    assert exit_accuracy(Sums(answered_device=100)) is None
    found = exit_accuracy(Sums(audited=100, agreed=100))
    assert found is not None
    assert found.value == 1.0
    assert found.high == pytest.approx(1.0)
    assert found.low == pytest.approx(0.963, abs=0.001)


def asked(confidence: float) -> Sums:
    return Sums(exits_asked=100, confidence=100 * confidence)


def test_drift_compares_devices_with_themselves() -> None:
    chance = random.Random(1)
    own = [0.6 + 0.3 * chance.random() for _ in range(30)]  # devices differ more than they drift
    same = drift((asked(one), asked(one + chance.gauss(0, 0.005))) for one in own)
    less = drift((asked(one), asked(one - 0.02 + chance.gauss(0, 0.005))) for one in own)
    assert same is not None
    assert not same.clear
    assert less is not None
    assert less.clear
    assert less.low < -0.02 < less.high
    assert drift([(asked(0.5), asked(0.5))] * (FEWEST_DEVICES - 1)) is None
    assert drift([(Sums(), asked(0.5))] * 20) is None
