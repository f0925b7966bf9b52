"""A few seconds of what ``make soak`` does for ten minutes."""

from __future__ import annotations

import pytest

from tests.benchmarks.soak import growth_mb_per_hour, soak

pytestmark = pytest.mark.alone

SECONDS = 4.0
GROWTH_MB = 8.0  # warm-up fills what is kept for reuse; a leak of each request would be more


def test_memory_stays_under_load() -> None:
    times, megabytes, answered = soak(SECONDS)
    assert len(times) == len(megabytes) > 4
    assert answered > 500
    assert megabytes[-1] - megabytes[1] < GROWTH_MB, megabytes


def test_growth_is_that_of_the_second_half() -> None:
    times = [float(second) for second in range(100)]
    megabytes = [80.0 + min(second, 50.0) for second in times]
    assert growth_mb_per_hour(times, megabytes) == pytest.approx(0.0, abs=1e-6)
    leaking = [80.0 + 0.01 * second for second in times]
    assert growth_mb_per_hour(times, leaking) == pytest.approx(36.0)
