"""A deployment of the last release is upgraded while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers.engine import Engine, EngineError
from tests.containers.release import RELEASED
from tests.containers.upgrade import upgrade


async def test_nothing_is_lost_while_a_deployment_is_upgraded(
    engine: Engine, tmp_path: Path
) -> None:
    try:
        engine.docker("image", "inspect", f"taper/cloud:{RELEASED}")
    except EngineError:
        pytest.skip("no images of the last release were built: make containers-upgrade")
    outcome = await upgrade(engine, tmp_path)
    assert outcome.failed == 0, outcome
    assert outcome.old == ()
    assert outcome.telemetry.stored > 0
    assert (outcome.telemetry.lost, outcome.telemetry.duplicate) == (0, 0)
