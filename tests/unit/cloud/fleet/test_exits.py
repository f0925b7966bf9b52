"""What exit heads say now and said before, and the metrics of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cloud.fleet.exits import FleetExits
from cloud.fleet.metrics import exit_families
from cloud.telemetry.recent import RECENT, Recent
from shared.fleet.messages import MessageKind, Telemetry, Topic

SAID = Telemetry(
    "a", 1, 1, 0.0, model="digits", model_version="1", exits_asked=10, exit_confidence=0.9,
    audited=2, agreed=2,
)  # fmt: skip
NAMES = [f"d{number}" for number in range(10)]


def told(exits: FleetExits, message: Telemetry, times: int) -> None:
    for number in range(times):
        for place, name in enumerate(NAMES):
            # Devices differ, and no two samples are alike.
            confidence = message.exit_confidence + 0.001 * ((place + number) % 3)
            one = replace(message, device=name, exit_confidence=confidence)
            exits.see(Topic("city", name, MessageKind.TELEMETRY), one)


def test_what_is_old_is_before_and_what_is_recent_is_now() -> None:
    history = Recent()
    for _ in range(2 * RECENT):
        history.add(SAID)
    assert (history.before.messages, history.now.messages) == (0, 2 * RECENT)
    history.add(replace(SAID, exit_confidence=0.5))
    assert (history.before.messages, history.now.messages) == (RECENT, RECENT + 1)
    assert history.before.exit_confidence == pytest.approx(0.9)
    assert history.now.agreement == 1


def test_a_fleet_that_is_less_sure_than_before_drifts() -> None:
    exits = FleetExits()
    told(exits, SAID, 3 * RECENT)
    steady = exits.drift(NAMES)
    assert steady is not None
    assert abs(steady.value) < 0.01
    told(exits, replace(SAID, exit_confidence=0.7, agreed=1), 2 * RECENT)
    drift = exits.drift(NAMES)
    assert drift is not None
    assert drift.high < -0.1
    assert exits.now(NAMES).agreement == 0.5
    assert exits.drift(NAMES[:3]) is None  # too few devices to know


def test_another_model_is_no_drift() -> None:
    exits = FleetExits()
    told(exits, SAID, 3 * RECENT)
    told(exits, replace(SAID, model_version="2", exit_confidence=0.7), 1)
    assert exits.drift(NAMES) is None
    assert exits.now(NAMES).exit_confidence == pytest.approx(0.701, abs=0.001)


def test_the_metrics_have_drift_and_agreement_by_group() -> None:
    exits = FleetExits()
    told(exits, SAID, 3 * RECENT)
    told(exits, replace(SAID, exit_confidence=0.7), 2 * RECENT)
    found = {
        (sample.name, sample.labels["group"]): sample.value
        for family in exit_families("city", exits, {"north": NAMES, "south": []})
        for sample in family.samples
    }
    assert {group for _, group in found} == {"north"}
    assert found["taper_fleet_exit_drift", "north"] < -0.1
    assert 0 < found["taper_fleet_exit_drift_margin", "north"] < 0.05
    assert found["taper_fleet_exit_agreement", "north"] == 1
    exits.forget(NAMES[0])
    assert exits.now(NAMES[:1]).messages == 0
