"""Durations in text."""

from __future__ import annotations

import pytest

from shared.durations import duration_s, parse_duration
from shared.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("7d", 7 * 86_400), ("36h", 129_600), ("1.5m", 90), ("45s", 45), ("1w", 604_800)),
        *(("1h30m", 5400), (" 2 h 5 s", 7205)),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds
    assert parse_duration(text, "--lifetime") == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1y", "nan d", "1e3d", "1h and 3m"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        duration_s(text)
    with pytest.raises(UsageError, match="--lifetime"):
        parse_duration(text, "--lifetime")


def test_no_time_at_all_is_a_duration_but_no_goal() -> None:
    assert duration_s("0h") == 0
    with pytest.raises(UsageError, match="--lifetime"):
        parse_duration("0h", "--lifetime")
