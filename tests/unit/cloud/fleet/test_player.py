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


async def test_devices_that_are_away_delay_no_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker()
    monkeypatch.setattr("cloud.fleet.client.BrokerClient", MemoryNetwork(city=broker).connect)
    monkeypatch.setattr("cloud.fleet.player.REPORT_WITHIN_S", 1e6)
    MemoryDevice(broker, "city", "here", "own").connect()
    broker.publish("taper/v1/city/away/birth", dump(Birth("away", 1, 1, 0.0, PROTOCOL)), True)
    broker.publish("taper/v1/city/away/death", dump(Death("away", 1)), True)
    scenario = FleetScenario.model_validate({"name": "short", "duration": "1s", "settings": {}})
    async with running(FleetClient(parse_broker("mqtt://city"), "city")) as client:
        player = Player(client, scenario, 1.0, None, lambda _: None)
        reports = await asyncio.wait_for(player.set("all", {"fraction": "0.5"}), WITHIN_S)
    assert reports["away"] is None
    assert reports["here"] is not None
