"""A short run of chaos; ``make chaos`` runs a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run

pytestmark = pytest.mark.alone

SEED = 3  # in its short run everything happens: each program is killed, each fault comes


async def test_every_sample_is_answered_once_and_every_message_stored_once(tmp_path: Path) -> None:
    outcome = await run(SEED, 12.0, tmp_path, print)
    assert outcome.samples.right, outcome.samples
    assert outcome.samples.asked > 100
    assert outcome.samples.late > 0  # some waited in a spool
    assert outcome.telemetry.stored > 50
    assert outcome.green, outcome.telemetry
