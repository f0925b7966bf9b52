from __future__ import annotations

import math

import pytest

from shared.errors import FractionError
from shared.fractions import channels, check_levels, level_for, parse_fraction

LEVELS = (0.125, 0.25, 0.3, 0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    ("fraction", "total", "step", "expected"),
    [
        (0.3, 10, 1, 3),
        (0.55, 100, 1, 55),  # 0.55 * 100 is a little over 55
        (0.1, 8, 1, 1),
        (0.001, 64, 1, 1),
        (1.0, 64, 8, 64),
        (0.3, 64, 8, 24),
        (0.125, 64, 16, 16),
        (0.9, 12, 8, 12),  # a whole step would be more than there are
        (math.nextafter(0, 1), 5, 1, 1),
    ],
)
def test_channels_round_up_to_whole_steps(
    fraction: float, total: int, step: int, expected: int
) -> None:
    assert channels(fraction, total, step) == expected


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "nan", "inf", "abc", "", "0x1"])
def test_refused_fractions_name_the_flag(text: str) -> None:
    with pytest.raises(FractionError, match=r"--fraction: .* give a number above 0"):
        parse_fraction(text, "--fraction")


@pytest.mark.parametrize(
    ("fraction", "level"), [(0.01, 0), (0.125, 0), (0.126, 1), (0.3, 2), (0.31, 3), (1.0, 5)]
)
def test_level_is_the_smallest_that_suffices(fraction: float, level: int) -> None:
    assert level_for(fraction, LEVELS) == level


@pytest.mark.parametrize("levels", [(), (0.5,), (0.5, 0.25, 1.0), (0.5, 0.5, 1.0), (0.0, 1.0)])
def test_levels_must_ascend_and_end_with_one(levels: tuple[float, ...]) -> None:
    with pytest.raises(FractionError, match="levels"):
        check_levels(levels, "levels")
