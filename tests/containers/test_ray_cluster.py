"""Ray Serve over two machines, each a container, by ``deploy/ray/compose.yaml``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.containers.engine import Engine, EngineError
from tests.containers.images import RAY
from tests.containers.ray_trial import cluster, ray_trial


@pytest.fixture
def with_ray(engine: Engine) -> Engine:
    try:
        engine.docker("image", "inspect", RAY)
    except EngineError:
        pytest.skip("no image of Ray was built: make containers-ray")
    return engine


@pytest.mark.timeout(900)
async def test_a_worker_is_lost_and_another_joins(with_ray: Engine, tmp_path: Path) -> None:
    with cluster(with_ray, tmp_path) as running:
        outcome = await ray_trial(running)
    assert outcome.nodes == 2
    assert outcome.failed == 0, outcome
    assert outcome.joined > 0
    assert (outcome.most, outcome.at_rest) == (3, 2)  # up with the load, and down after it
