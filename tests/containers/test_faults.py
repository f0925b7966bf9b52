"""Containers are restarted, killed, paused and cut off under load, and nothing is lost."""

from __future__ import annotations

import pytest

from tests.containers.stack import Stack
from tests.containers.trial import SAMPLES, trial


async def test_no_sample_and_no_telemetry_is_lost(deployed: Stack) -> None:
    outcome = await trial(deployed)
    assert outcome.samples >= SAMPLES
    assert outcome.failed == 0, outcome
    assert outcome.moved  # a server was found again at another address
    assert outcome.telemetry.stored > 0
    assert (outcome.telemetry.lost, outcome.telemetry.duplicate) == (0, 0)


@pytest.mark.parametrize("service", ["cloud-1", "recorder", "dashboard", "player", "fleet"])
def test_a_program_ends_when_it_is_asked_to(deployed: Stack, service: str) -> None:
    try:
        deployed.docker("stop", service, "--time", "30")
        state = deployed.inspect(service)["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)  # not 137: it was not killed
    finally:
        deployed.docker("start", service)
