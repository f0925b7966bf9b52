"""A device that publishes requests to a broker and waits for the responses, as a board does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.fleet.arrived import Arrived
from shared.fleet.broker import Broker, BrokerClient

WAIT_S = 20.0


class MqttDevice:
    """One device's connection: ``ask`` publishes a request and returns what comes back."""

    def __init__(self, client: BrokerClient, device: str) -> None:
        self.heard: asyncio.Queue[Arrived] = asyncio.Queue()
        self._client = client
        self._topic = f"taper/v1/{device}"

    async def ask(self, request: bytes) -> bytes:
        """The response to one request."""
        await self._client.post(f"{self._topic}/infer", request)
        return (await self.next()).payload

    async def next(self) -> Arrived:
        """The next response that comes."""
        async with asyncio.timeout(WAIT_S):
            return await self.heard.get()


@asynccontextmanager
async def mqtt_device(broker: Broker, device: str) -> AsyncIterator[MqttDevice]:
    """Connect as ``device`` (FLEET/NAME) and listen for responses while the block runs."""
    heard: list[MqttDevice] = []

    def hear(message: Arrived) -> None:
        heard[0].heard.put_nowait(message)

    async with BrokerClient(broker, device, on_request=hear, session_s=0) as client:
        heard.append(MqttDevice(client, device))
        await client.listen(f"taper/v1/{device}/inferred/#")
        yield heard[0]
