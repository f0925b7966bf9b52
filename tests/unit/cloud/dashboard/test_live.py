"""What the dashboard keeps of a fleet, with a broker in memory."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from cloud.dashboard.live import LiveFleet
from cloud.dashboard.view import REMEMBERED_IN_ALL, Tail
from shared.fleet.broker import parse_broker
from shared.fleet.messages import PROTOCOL, Birth, Telemetry
from shared.fleet.payloads import dump
from tests.support.clouds import until
from tests.support.fleet_in_memory import MemoryBroker, MemoryNetwork

WITHIN_S = 60.0


async def test_a_device_that_begins_anew_is_among_the_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    monkeypatch.setattr("cloud.fleet.client.BrokerClient", MemoryNetwork(city=broker).connect)
    live = LiveFleet(parse_broker("mqtt://city"), "city", None, None)
    task = asyncio.create_task(live.run())

    def known() -> Birth | None:
        device = live.device("cam")
        return None if device is None else device.birth

    await until(lambda: live.connected, WITHIN_S)
    for number, epoch in enumerate(("e1", "e1", "e2"), 1):
        birth = Birth("cam", number, 1, 0.0, PROTOCOL, epoch=epoch)
        broker.publish("taper/v1/city/cam/birth", dump(birth), True)
        await until(partial(lambda sent: known() == sent, birth), WITHIN_S)
    (noted,) = live.trail.changes
    assert (noted.who, noted.target) == ("device", "cam")
    assert noted.what.startswith("new epoch e2 after e1")
    assert live.view().summary.online == 1
    assert live.targets == ["all", "cam"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_of_a_large_fleet_less_is_remembered_of_each_device() -> None:
    tail = Tail()
    for number in range(1, 20):
        tail.add(Telemetry("cam", 1, number, 0.0), 0.0, REMEMBERED_IN_ALL // 7)
    assert [one.sequence for one in tail.messages] == list(range(13, 20))
