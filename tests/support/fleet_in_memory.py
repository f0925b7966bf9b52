"""A broker, devices and a recorder in one event loop, without sockets: every order is repeatable.

The broker can be killed: it loses what it had since it wrote its retained messages down, and
everybody connects again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

from cloud.fleet.client import FleetClient
from cloud.fleet.recorder import Recorder
from cloud.fleet.running import running
from cloud.telemetry.store import Store
from shared.errors import BrokerError
from shared.fleet.broker import Broker, parse_broker
from shared.fleet.messages import (
    PROTOCOL,
    Birth,
    Desired,
    Message,
    MessageKind,
    Reported,
    Topic,
    parse_topic,
)
from shared.fleet.payloads import dump, load

SOON_S = 0.002  # until a device connects again
Deliver = Callable[[str, bytes, int], None]


@dataclass
class MemoryBroker:
    """Retained messages and who is connected."""

    retained: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)
    connections: list[MemoryConnection] = field(default_factory=list)
    devices: list[MemoryDevice] = field(default_factory=list)

    def publish(self, topic: str, payload: bytes, retain: bool) -> None:
        """Keep the message if it is retained, and deliver it."""
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for one in list(self.connections):
            if any(_matches(topic, wanted) for wanted in one.wanted):
                one.deliver(topic, payload, 0)

    def write(self) -> None:
        """Write the retained messages down, as Mosquitto does every 30 s."""
        self.written = dict(self.retained)

    def kill(self) -> None:
        """Lose what was not written down, and all connections."""
        self.retained = dict(self.written)
        for one in list(self.connections):
            one.end()
        loop = asyncio.get_running_loop()
        for place, device in enumerate(self.devices):
            loop.call_later(SOON_S * (place + 1), device.connect)


def _matches(topic: str, wanted: str) -> bool:
    """Whether the subscription ``wanted`` is for ``topic``."""
    parts, pattern = topic.split("/"), wanted.split("/")
    return len(parts) == len(pattern) and all(
        here in ("+", there) for there, here in zip(parts, pattern, strict=True)
    )


class MemoryConnection:
    """One client's connection, as ``BrokerClient``."""

    def __init__(self, broker: MemoryBroker, deliver: Deliver) -> None:
        self._broker = broker
        self._ended = asyncio.Event()
        self.deliver = deliver
        self.wanted: list[str] = []

    async def __aenter__(self) -> Self:
        self._broker.connections.append(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Lose the connection."""
        self._ended.set()
        if self in self._broker.connections:
            self._broker.connections.remove(self)

    async def listen(self, *topics: str, own: bool = False) -> None:
        """Subscribe, and have retained messages delivered."""
        self.wanted += topics
        for topic, payload in list(self._broker.retained.items()):
            if any(_matches(topic, wanted) for wanted in topics):
                self.deliver(topic, payload, 0)

    def post(
        self, topic: str, payload: bytes, *, retain: bool = False, **_: object
    ) -> asyncio.Future[None]:
        """Publish; the broker confirms at once, or never."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda one: one.exception())
        if self._ended.is_set():
            future.set_exception(BrokerError("the connection is lost"))
        else:
            self._broker.publish(topic, payload, retain)
            future.set_result(None)
        return future

    def acknowledge(self, number: int) -> None:
        """Do nothing: every message has arrived."""

    async def lost(self) -> None:
        """Wait until the connection is lost."""
        await self._ended.wait()
        raise BrokerError("the connection is lost")


class MemoryDevice:
    """Obeys as the contract says, at once; its desired state is on its own disk."""

    def __init__(self, broker: MemoryBroker, fleet: str, name: str, model: str) -> None:
        self._broker = broker
        self._fleet = fleet
        self._own = model
        self._session = 0
        self._desired = Desired(0)
        self._connection: MemoryConnection | None = None
        self.name = name
        self.model = model
        broker.devices.append(self)

    def connect(self) -> None:
        """Connect, take the retained desired state, and report."""
        self._session += 1
        birth = Birth(self.name, self._session, 1, 0.0, PROTOCOL, epoch="e1")
        self._say(MessageKind.BIRTH, birth)
        self._connection = MemoryConnection(self._broker, self._receive)
        self._broker.connections.append(self._connection)
        topic = str(Topic(self._fleet, self.name, MessageKind.DESIRED))
        self._connection.wanted.append(topic)
        if topic in self._broker.retained:
            self._receive(topic, self._broker.retained[topic], 0)
        self._report()

    def _receive(self, topic: str, payload: bytes, _: int) -> None:
        desired = load(parse_topic(topic), payload)
        assert isinstance(desired, Desired)
        if desired.version >= self._desired.version and desired != self._desired:
            self._desired = desired
            self.model = desired.settings.model or self._own
        self._report()

    def _report(self) -> None:
        settings = self._desired.settings
        told = type(settings)(model=self.model)
        said = Reported(self.name, self._session, self._desired.version, told, epoch="e1")
        self._say(MessageKind.REPORTED, said)

    def _say(self, kind: MessageKind, message: Message) -> None:
        self._broker.publish(str(Topic(self._fleet, self.name, kind)), dump(message), True)


class MemoryNetwork(dict[str, MemoryBroker]):
    """Brokers by the host in their address."""

    def connect(
        self, broker: Broker, identifier: str, deliver: Deliver, **_: object
    ) -> MemoryConnection:
        """In the place of ``BrokerClient``."""
        return MemoryConnection(self[broker.host], deliver)


@dataclass
class MemoryFleet:
    """Devices that work with ``model``, and a recorder with a real store, while the block runs.

    The address of its broker is ``mqtt://FLEET``.
    """

    network: MemoryNetwork
    kept: Store
    fleet: str
    count: int
    model: str
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        self.network[self.fleet] = self.broker
        for number in range(self.count):
            MemoryDevice(self.broker, self.fleet, f"d{number}", self.model).connect()
        recorder = Recorder(parse_broker(f"mqtt://{self.fleet}"), self.fleet, self.kept)
        await self.stack.enter_async_context(running(recorder.client, recorder.run))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stack.aclose()

    def client(self) -> FleetClient:
        """Another client of this fleet."""
        return FleetClient(parse_broker(f"mqtt://{self.fleet}"), self.fleet)

    def models(self) -> list[str]:
        """What the devices work with."""
        return [device.model for device in self.broker.devices]
