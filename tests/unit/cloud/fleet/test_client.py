"""The client of a fleet, with a broker in memory."""

from __future__ import annotations

import asyncio

import pytest

from cloud.fleet.client import FleetClient
from shared.fleet.broker import parse_broker
from shared.fleet.messages import DeviceSettings
from tests.support.fleet_in_memory import MemoryBroker, MemoryDevice, MemoryNetwork

WITHIN_S = 60.0


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    network = MemoryNetwork(city=MemoryBroker())
    monkeypatch.setattr("cloud.fleet.client.BrokerClient", network.connect)
    return network["city"]


async def connected() -> tuple[FleetClient, asyncio.Task[None]]:
    client = FleetClient(parse_broker("mqtt://city"), "city")
    task = asyncio.create_task(client.run())
    async with asyncio.timeout(WITHIN_S):
        await client.complete.wait()
    return client, task


async def test_a_client_that_is_stopped_while_its_broker_dies_ends(broker: MemoryBroker) -> None:
    _, task = await connected()
    broker.kill()
    task.cancel()
    await asyncio.wait((task,), timeout=WITHIN_S)
    assert task.cancelled()


async def test_orders_that_a_killed_broker_has_lost_are_known_and_given_again(
    broker: MemoryBroker,
) -> None:
    MemoryDevice(broker, "city", "a", "own").connect()
    client, task = await connected()
    device = client.state.device("a")
    report = client.desire([device], lambda _: DeviceSettings(model="new"))["a"]
    await asyncio.wait_for(report, WITHIN_S)
    assert client.settled(["a"])
    broker.kill()
    async with asyncio.timeout(WITHIN_S):
        while client.connected.is_set():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
        await client.complete.wait()
    assert not client.settled(["a"])
    assert [one.name for one in client.lost(["a"])] == ["a"]
    assert client.restore(["a"]) == ["a"]
    await asyncio.sleep(0)
    assert client.settled(["a"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
