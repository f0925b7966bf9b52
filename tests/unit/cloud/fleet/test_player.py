"""Scenarios, with a broker in memory."""

from __future__ import annotations

import asyncio

import pytest

from cloud.fleet.client import FleetClient
from cloud.fleet.player import Player
from cloud.fleet.running import running
from shared.fleet.broker import parse_broker
from shared.fleet.messages import PROTOCOL, Birth, Death
from shared.fleet.payloads import dump
from shared.fleet.scenario import FleetScenario
from tests.support.fleet_in_memory import MemoryBroker, MemoryDevice, MemoryNetwork

WITHIN_S = 60.0


async def test_devices_that_are_away_or_dead_delay_no_scenario(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    monkeypatch.setattr("cloud.fleet.client.BrokerClient", MemoryNetwork(city=broker).connect)
    monkeypatch.setattr("cloud.fleet.player.REPORT_WITHIN_S", 1e6)
    here = MemoryDevice(broker, "city", "here", "own")
    here.connect()
    for name in ("away", "dead"):  # a broker that was killed never said that the second is gone
        birth = Birth(name, 1, 1, 0.0, PROTOCOL)
        broker.publish(f"taper/v1/city/{name}/birth", dump(birth), True)
    broker.publish("taper/v1/city/away/death", dump(Death("away", 1)), True)
    events = [{"at": "1s", "for": "all", "set": {"model": "new"}},
              {"at": "2s", "for": "here", "set": {"model": "newer"}}]  # fmt: skip
    scenario = FleetScenario.model_validate(
        {"name": "short", "duration": "3s", "settings": {"fraction": "0.5"}, "events": events}
    )
    async with running(FleetClient(parse_broker("mqtt://city"), "city")) as client:
        player = Player(client, scenario, 60.0, None, lambda _: None)
        await asyncio.wait_for(player.play(), WITHIN_S)
        assert here.model == "newer"
        assert client.state.device("dead").desired.settings.model == "new"
