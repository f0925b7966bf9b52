"""A sample of the frames that ``make fuzz-frames`` sends through a real server."""

from __future__ import annotations

from tests.attacks.fuzz_frames import run

LARGEST_GROWTH_BYTES = 32 * 2**20


def test_two_thousand_hostile_frames() -> None:
    outcome = run(2000, seed=7)
    assert outcome.wrong == []
    assert sum(outcome.statuses.values()) == 2000
    assert sum(times for code, times in outcome.statuses.items() if code) > 1000
    assert outcome.memory_after - outcome.memory_before < LARGEST_GROWTH_BYTES
