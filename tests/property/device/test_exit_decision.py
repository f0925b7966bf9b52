"""Every runtime takes the same decision about a sample: numpy, compiled kernels, the C engine."""

from __future__ import annotations

import ctypes
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.micro.blob import make_blob
from device.split.pipeline import ExitSettings, Pipeline
from shared.model.bundle import Bundle, make_bundle
from shared.model.exits import (
    NEVER_MARGIN,
    ONE,
    RIVALS,
    local_answer,
    margin_threshold,
    margins,
    read_calibration,
)
from shared.packed import DeviceHalf, kernels
from tests.support.clouds import tiny_bundle
from tests.support.engine import Engine, build_library
from tests.support.networks import random_bundle, random_images

THRESHOLDS = st.floats(0, 1) | st.sampled_from([0.5, 0.9, 0.999, 1.0, 2.0])
TEMPERATURES = st.floats(0.01, 50)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build_library(tmp_path_factory.mktemp("engine"))


def network(seed: int, thresholds: list[float], temperature: float) -> Bundle:
    """Random weights and exit tables, and an exit calibration with these thresholds."""
    architecture = replace(tiny_bundle().architecture, exit_head=True)
    made = random_bundle(architecture, seed)
    exits = {"temperature": [temperature] * 3, "threshold": thresholds, "curve": [[]] * 3}
    return make_bundle(replace(made.metadata, extra={"exit": exits}), made.tensors)


@given(
    seed=st.integers(0, 2**32 - 1),
    thresholds=st.lists(THRESHOLDS, min_size=3, max_size=3),
    temperature=TEMPERATURES,
)
def test_runtimes_decide_alike(
    library: ctypes.CDLL, seed: int, thresholds: list[float], temperature: float
) -> None:
    bundle = network(seed, thresholds, temperature)
    images = random_images(bundle.architecture.input_shape, 6, seed)
    halves = [DeviceHalf(bundle, kernel) for kernel in kernels.available()]
    pipeline = Pipeline(bundle, ExitSettings())
    calibration = read_calibration(bundle)
    assert calibration is not None
    engine = Engine(library, make_blob(bundle, [0, 1, 2]))
    for level in range(3):
        features = halves[0].run(images, level)
        logits = halves[0].exit_logits(features, level)
        for half in halves:
            np.testing.assert_array_equal(half.exit_logits(features, level), logits)
        least = pipeline.least_margin(level, None)
        assert least == calibration.margins[level]
        answers = [local_answer(row, temperature) for row in logits.tolist()]
        assert [answer.margin for answer in answers] == margins(logits).tolist()
        for image, answer in zip(images, answers, strict=True):
            mine = (answer.label, answer.margin, answer.margin >= least)
            assert engine.ask(image, level) == mine


@given(THRESHOLDS, TEMPERATURES, st.integers(0, 2**40))
def test_a_margin_reaches_the_threshold_when_its_confidence_does(
    threshold: float, temperature: float, margin: int
) -> None:
    answer = local_answer([0, margin], temperature)
    stays = answer.margin >= margin_threshold(threshold, temperature)
    if not math.isclose(answer.exit_confidence, threshold, rel_tol=1e-9):
        assert stays == (answer.exit_confidence >= threshold)


@given(st.floats(0, 1), TEMPERATURES)
def test_thresholds_rise_with_their_confidence(threshold: float, temperature: float) -> None:
    lower = margin_threshold(threshold * 0.99, temperature)
    assert 0 <= lower <= margin_threshold(threshold, temperature) <= NEVER_MARGIN
    assert margin_threshold(1 / 3, temperature) == 0
    assert margin_threshold(1.0, temperature) == NEVER_MARGIN


def test_a_threshold_is_the_odds_against_two_of_the_next_best() -> None:
    nine_to_one = margin_threshold(0.9, 1.0)
    assert nine_to_one == pytest.approx(ONE * math.log(9 * RIVALS), abs=1)
    assert margin_threshold(0.9, 2.0) == pytest.approx(2 * nine_to_one, abs=2)
