"""Hostile input straight to the compiled module: an error each time, never a crash."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.packed import kernels

if kernels.missing_reason():
    pytest.skip("no compiled kernels here", allow_module_level=True)

from shared.packed import _native

NONE_FLOAT = np.zeros((0, 0), np.float32)
NONE_INT = np.zeros((0, 0), np.int32)


def stage(**changes: Any) -> dict[str, Any]:
    """A binary 3x3 stage of 8 to 4 channels, with some fields changed."""
    fields: dict[str, Any] = {
        "kind": "binary_conv",
        "in_channels": 8,
        "out_channels": 4,
        "pool": 1,
        "stride": 1,
        "weight": np.zeros((4, 9), np.uint8),
        "coefficients": np.ones(8, np.int32),
        "threshold": np.zeros((1, 4), np.int32),
        "flip": np.zeros((1, 4), np.uint8),
        "scale": NONE_FLOAT,
        "bias": NONE_FLOAT,
        "low_threshold": NONE_INT,
    }
    return fields | changes


def half(*stages: dict[str, Any], shape: Any = (5, 6, 8), plans: Any = ((8, [4]),)) -> _native.Half:
    return _native.Half("portable", shape, list(stages), list(plans))


def test_a_well_formed_stage_gives_the_right_bits() -> None:
    output = np.zeros((2, 15), np.uint8)
    half(stage()).run(np.zeros((2, 30), np.uint8), 0, output)
    # Inputs, weights and margin are all -1: every sum is +72, above the threshold of 0.
    assert (output == 255).all()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "conv"}, "kind: must be image_conv"),
        ({"kind": 3}, "wrong type"),
        ({"kind": "binary_linear"}, "weight: has 36 values, must have 120"),
        ({"in_channels": 9}, r"in_channels: 9 is not allowed, must be 8 to 8"),
        ({"in_channels": 2**40}, "wrong type"),
        ({"out_channels": 5}, "weight: has 36 values, must have 45"),
        ({"out_channels": 0}, "out_channels: 0 is not allowed"),
        ({"out_channels": 2**30}, "out_channels"),
        ({"pool": 0}, "pool: 0 is not allowed, must be 1 to 5"),
        ({"pool": 6}, "pool: 6 is not allowed"),
        ({"stride": 3}, "stride: 3 is not allowed, must be 1 to 2"),
        ({"pool": 2, "stride": 2}, "stride: 2 is not allowed, must be 1 to 1"),
        ({"weight": np.zeros((4, 8), np.uint8)}, "weight: has 32 values, must have 36"),
        ({"weight": np.zeros((4, 9), np.int8)}, "weight: format b .* must be uint8"),
        ({"weight": np.zeros((4, 18), np.uint8)[:, ::2]}, "must be uint8, contiguous"),
        ({"weight": [0] * 36}, "weight: must be a uint8 array"),
        ({"weight": None}, "weight: must be a uint8 array"),
        ({"coefficients": np.ones(7, np.int32)}, "coefficients: has 7 values, must have 8"),
        ({"coefficients": np.full(8, 128, np.int32)}, "coefficients: 128 is not allowed"),
        ({"coefficients": np.full(8, -1, np.int32)}, "coefficients: -1 is not allowed"),
        ({"coefficients": np.ones(8, np.int64)}, "coefficients: format l"),
        ({"coefficients": np.ones(8, np.dtype(">i4"))}, "coefficients: format >i"),
        ({"threshold": np.zeros((2, 4), np.int32)}, "threshold: has 8 values, must have 4"),
        ({"threshold": np.zeros((1, 4), np.float32)}, "threshold: format f"),
        ({"flip": np.zeros(4, np.uint8)}, "flip: .* with 2 axes"),
        ({"scale": np.ones((1, 4), np.float32)}, "only the last may give logits"),
        ({"low_threshold": np.zeros((1, 4), np.int32)}, "nor the last may be ternary"),
    ],
)
def test_a_wrong_field_of_a_stage_is_named(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        half(stage(**changes))


@pytest.mark.parametrize(
    ("low_threshold", "expected"),
    [
        (np.zeros((1, 8), np.int32), None),
        (np.zeros((1, 7), np.int32), "low_threshold: has 7 values, must have 8"),
        (np.zeros((2, 8), np.int32), "low_threshold: has 16 values, must have 8"),
        (np.zeros((1, 8), np.float32), "low_threshold: format f"),
        (np.zeros(8, np.int32), "low_threshold: .* with 2 axes"),
    ],
)
def test_the_low_thresholds_of_a_ternary_stage_are_checked(
    low_threshold: Any, expected: str | None
) -> None:
    first = stage(
        out_channels=8,
        weight=np.zeros((8, 9), np.uint8),
        threshold=np.zeros((1, 8), np.int32),
        flip=np.zeros((1, 8), np.uint8),
        low_threshold=low_threshold,
    )
    if expected is None:
        half(first, stage(), plans=[(8, [8, 4])])
    else:
        with pytest.raises(ValueError, match=expected):
            half(first, stage(), plans=[(8, [8, 4])])


def test_sums_of_two_bits_stay_exact() -> None:
    """A layer that fits behind a binary stage may be too large behind a ternary one."""
    inputs = 9216
    wide = {
        "in_channels": inputs,
        "weight": np.zeros((4, 9 * inputs // 8), np.uint8),
        "coefficients": np.full(inputs, 127, np.int32),
    }
    first = {
        "out_channels": inputs,
        "weight": np.zeros((inputs, 9), np.uint8),
        "threshold": np.zeros((1, inputs), np.int32),
        "flip": np.zeros((1, inputs), np.uint8),
    }
    plans = [(8, [inputs, 4])]
    half(stage(**first), stage(**wide), plans=plans)
    ternary = stage(**first, low_threshold=np.zeros((1, inputs), np.int32))
    with pytest.raises(ValueError, match=r"sums up to .* exceed 2\*\*24"):
        half(ternary, stage(**wide), plans=plans)


def test_a_missing_field_is_an_error() -> None:
    fields = stage()
    del fields["flip"]
    with pytest.raises(ValueError, match="a field is missing"):
        half(fields)


@pytest.mark.parametrize("shape", [(0, 6, 8), (5, -1, 8), (5, 6), (2**20, 2**20, 8), (5, 6, 2**31)])
def test_a_wrong_input_shape_is_an_error(shape: Any) -> None:
    with pytest.raises(ValueError, match=r"not allowed|must be|wrong type"):
        half(stage(), shape=shape)


@pytest.mark.parametrize(
    "plans",
    [
        [],
        [(9, [4])],
        [(0, [4])],
        [(8, [5])],
        [(8, [0])],
        [(8, [])],
        [(8, [4, 4])],
        [(8, [4]), (8, [4])],
        [(8, 4)],
        [8],
        [(8,)],
        [(8.5, [4])],
        [(8, [2**70])],
    ],
)
def test_a_wrong_plan_is_an_error(plans: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        half(stage(), plans=plans)


def test_a_map_too_large_for_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes of scratch memory, must be at most"):
        half(stage(), shape=(16384, 16384, 8))


def test_a_half_without_stages_is_an_error() -> None:
    with pytest.raises(ValueError, match="stages: must have at least one"):
        half()


def test_an_unknown_kernel_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="'fast' is not available here, must be one of"):
        _native.Half("fast", (5, 6, 8), [stage()], [(8, [4])])


@pytest.mark.parametrize(
    ("given", "plan", "output"),
    [
        (np.zeros((2, 29), np.uint8), 0, np.empty((2, 15), np.uint8)),
        (np.zeros((2, 30), np.int16), 0, np.empty((2, 15), np.uint8)),
        (np.zeros((2, 60), np.uint8)[:, ::2], 0, np.empty((2, 15), np.uint8)),
        (np.zeros((2, 30), np.uint8)[::-1], 0, np.empty((2, 15), np.uint8)),
        (np.uint8(1), 0, np.empty((2, 15), np.uint8)),
        (np.zeros((2, 30), np.uint8), 1, np.empty((2, 15), np.uint8)),
        (np.zeros((2, 30), np.uint8), -1, np.empty((2, 15), np.uint8)),
        (np.zeros((2, 30), np.uint8), 0, np.empty((2, 14), np.uint8)),
        (np.zeros((2, 30), np.uint8), 0, np.empty((3, 15), np.uint8)),
        (np.zeros((2, 30), np.uint8), 0, np.empty((2, 30), np.uint8)[:, ::2]),
        (np.zeros((2, 30), np.uint8), 0, np.empty((2, 15), np.float32)),
        (np.zeros((2, 30), np.uint8), 0, bytes(30)),
        (None, 0, None),
        ("text", 0, np.empty((2, 15), np.uint8)),
    ],
)
def test_wrong_arguments_of_a_run_are_errors(given: Any, plan: Any, output: Any) -> None:
    runner = half(stage())
    with pytest.raises(ValueError, match=r".+"):
        runner.run(given, plan, output)


def test_arguments_of_the_wrong_number_or_type_are_errors() -> None:
    runner = half(stage())
    with pytest.raises(TypeError):
        runner.run(np.zeros((2, 30), np.uint8), 2**80, np.empty((2, 15), np.uint8))
    with pytest.raises(TypeError):
        runner.run()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="repeats"):
        runner.profile(np.zeros((1, 30), np.uint8), 0, 0)
    with pytest.raises(ValueError, match="plan: 1 is not allowed"):
        runner.input_bytes(1)
