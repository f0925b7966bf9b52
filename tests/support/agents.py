"""Agents in this process, and what the broker hears of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from device.agent.command import work
from device.agent.flags import parse
from shared.fleet.broker import Broker, BrokerClient
from tests.support.broker import Mosquitto


@asynccontextmanager
async def agent(*flags: str) -> AsyncIterator[asyncio.Task[None]]:
    """An agent that runs while the block does, and must not end before."""
    task = asyncio.create_task(work(parse(flags)))
    try:
        yield task
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Heard(list[dict[str, Any]]):
    """Telemetry of one device, as the broker delivers it."""

    def total(self, field: str) -> int:
        return sum(message.get(field, 0) for message in self)

    def answered(self) -> int:
        """How many samples different messages count as answered."""
        messages = {(message.get("epoch"), message["sequence"]): message for message in self}
        names = ("answered_device", "answered_cloud")
        return sum(message.get(name, 0) for message in messages.values() for name in names)

    def missing(self) -> int:
        """How many numbers between the first and the last one have not come; of one epoch."""
        numbers = {message["sequence"] for message in self}
        return max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0

    def new(self) -> int:
        """How many different messages there are."""
        return len({(message.get("epoch"), message["sequence"]) for message in self})


@asynccontextmanager
async def listening(broker: Broker, device: str) -> AsyncIterator[Heard]:
    heard = Heard()

    def receive(_: str, payload: bytes, __: int) -> None:
        heard.append(json.loads(payload))

    async with BrokerClient(broker, f"listener of {device}", receive, session_s=0) as client:
        await client.listen(f"taper/v1/default/{device}/telemetry")
        yield heard


def to(broker: Mosquitto, device: str, server: str) -> list[str]:
    return ["--broker", broker.url, "--device", device, "--server", server]
