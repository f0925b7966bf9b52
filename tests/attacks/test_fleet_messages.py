"""Hostile messages to all programs of a fleet; ``make fuzz-fleet`` sends 100,000."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.fuzz_fleet import fuzz


def test_no_message_stops_or_delays_a_program_of_the_fleet(tmp_path: Path) -> None:
    outcome = fuzz(tmp_path, 2000, seed=7)
    assert (outcome.dead, outcome.stale, outcome.tracebacks) == ([], [], [])
