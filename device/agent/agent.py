"""One device of a fleet: says what it does over MQTT, does what is desired, answers commands.

The same agent runs a real device (``python -m device.agent``) and each of the simulated ones.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, replace

from aiomqtt import Will

from device.agent.ledger import Ledger
from device.agent.pace import Pace
from device.agent.worker import Worker
from device.transport.backoff import Backoff
from shared.errors import BrokerError, MessageError
from shared.fleet.broker import Broker, BrokerClient
from shared.fleet.messages import (
    Birth,
    Command,
    Death,
    Desired,
    Kind,
    Message,
    Refusal,
    Reported,
    Result,
    Topic,
    parse_topic,
)
from shared.fleet.payloads import dump, load
from shared.version import installed_version

RESEND_AT_MOST = 500  # messages for one command
FAREWELL_S = 2.0
_log = logging.getLogger(__name__)


def software() -> str:
    """Name and version of what runs here."""
    return f"taper {installed_version()}"


@dataclass(frozen=True)
class Identity:
    """Who an agent is."""

    fleet: str
    device: str
    groups: tuple[str, ...] = ()
    hardware: str = ""
    simulated: bool = False

    def topic(self, kind: Kind) -> str:
        """The device's topic of ``kind``."""
        return str(Topic(self.fleet, self.device, kind))


class Agent:
    """Connects, says that it is here, and keeps the conversation going. ``run`` never returns."""

    def __init__(
        self, identity: Identity, broker: Broker, worker: Worker, ledger: Ledger, pace: Pace
    ) -> None:
        self._who = identity
        self._broker = broker
        self._worker = worker
        self._ledger = ledger
        self._pace = pace
        self._client: BrokerClient | None = None
        self._session = 0
        self._next_sequence = 1
        self._version = 0
        self._dropped = 0
        self._refused: tuple[Refusal, ...] = ()
        self._inbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._retimed = asyncio.Event()
        self.connected = asyncio.Event()
        self.refusals = 0

    async def run(self) -> None:
        """Work and talk until cancelled."""
        async with asyncio.TaskGroup() as group:
            name = self._who.device
            group.create_task(self._worker.run(), name=f"{name} images")
            group.create_task(self._listen(), name=f"{name} orders")
            group.create_task(self._talk(group), name=f"{name} broker")

    async def _talk(self, group: asyncio.TaskGroup) -> None:
        """Connect, again and again."""
        backoff = Backoff(0.5, 10.0)
        measuring = False
        while True:
            self._session, sequence = await self._ledger.begin(self._who.device)
            if not measuring:
                self._next_sequence = sequence
                group.create_task(self._measure(), name=f"{self._who.device} telemetry")
                measuring = True
            try:
                await self._converse(backoff)
            except BrokerError as error:
                _log.info("%s: %s", self._who.device, error)
            finally:
                self._client = None
                self.connected.clear()
            await asyncio.sleep(backoff.next_s())

    async def _converse(self, backoff: Backoff) -> None:
        """One connection, until it is lost or this task is cancelled."""
        who = self._who
        will = self._death("connection lost")
        client = BrokerClient(
            self._broker,
            f"{who.fleet}/{who.device}",
            self._receive,
            will=Will(who.topic(Kind.DEATH), dump(will), qos=1, retain=True),
        )
        async with client:
            await client.post(who.topic(Kind.BIRTH), dump(self._birth()), retain=True)
            await client.listen(who.topic(Kind.DESIRED), who.topic(Kind.COMMAND))
            self._client = client
            backoff.reset()
            self._report()
            for sequence, payload in await self._ledger.unconfirmed(who.device):
                self._post_telemetry(client, sequence, payload)
            self.connected.set()
            try:
                await client.lost()
            except asyncio.CancelledError:
                payload = dump(self._death("stopped"))
                # A broker that is away must not keep us from leaving: it has our last will.
                leaving = client.post(who.topic(Kind.DEATH), payload, retain=True)
                await asyncio.wait((leaving,), timeout=FAREWELL_S)
                raise

    def _birth(self) -> Birth:
        architecture = self._worker.bundle.architecture
        return Birth(
            device=self._who.device,
            session=self._session,
            next_sequence=self._next_sequence,
            unix_s=round(self._pace.now_unix_s(), 3),
            groups=self._who.groups,
            hardware=self._who.hardware,
            software=software(),
            levels=tuple(architecture.device_levels),
            exit_head=architecture.exit_head,
            simulated=self._who.simulated,
        )

    def _death(self, reason: str) -> Death:
        return Death(self._who.device, self._session, reason)

    def _receive(self, topic: str, payload: bytes, number: int) -> None:  # noqa: ARG002 - aiomqtt acknowledges
        self._inbox.put_nowait((topic, payload))

    async def _listen(self) -> None:
        """Do what comes, in its order; what is no message of ours is refused and counted."""
        while True:
            topic, payload = await self._inbox.get()
            try:
                message = load(parse_topic(topic), payload)
            except MessageError as error:
                self.refusals += 1
                _log.warning("refused: %s", error)
                continue
            await self._obey(message)

    async def _obey(self, message: Message) -> None:
        if isinstance(message, Desired):
            if message.version < self._version:
                self.refusals += 1
                _log.warning("refused: desired version %d is an old one", message.version)
            elif message.version > self._version:
                self._refused = await self._worker.apply(message.settings)
                self._version = message.version
                self._retimed.set()
            self._report()
        elif isinstance(message, Command):
            await self._do(message)

    def _report(self) -> None:
        if self._client is None:
            return
        reported = Reported(
            device=self._who.device,
            session=self._session,
            version=self._version,
            settings=self._worker.settings,
            refused=self._refused,
            model_version=self._worker.bundle.metadata.version,
            unix_s=round(self._pace.now_unix_s(), 3),
        )
        self._client.post(self._who.topic(Kind.REPORTED), dump(reported), retain=True)

    async def _do(self, command: Command) -> None:
        """Carry out a command and say what came of it."""
        result = Result(self._who.device, command.id, ok=True)
        match command.name:
            case "ping":
                pass
            case "measure":
                await self._send_telemetry()
            case "resend":
                result = await self._resend(command, result)
            case "battery":
                result = self._set_battery(command, result)
            case _:
                known = "ping, measure, resend, battery"
                text = f"name: {command.name!r} is unknown; known are {known}"
                result = replace(result, ok=False, error=text)
        if self._client is not None:
            self._client.post(self._who.topic(Kind.RESULT), dump(result))

    async def _resend(self, command: Command, result: Result) -> Result:
        try:
            first, last = (int(command.arguments[name]) for name in ("first", "last"))
        except (KeyError, ValueError):
            return replace(result, ok=False, error="arguments: give numbers first and last")
        last = min(last, first + RESEND_AT_MOST - 1, self._next_sequence - 1)
        entries = await self._ledger.between(self._who.device, first, last)
        if self._client is not None:
            for sequence, payload in entries:
                self._post_telemetry(self._client, sequence, payload)
        values = {"first": str(first), "last": str(last), "sent": str(len(entries))}
        return replace(result, values=values)

    def _set_battery(self, command: Command, result: Result) -> Result:
        try:
            level = float(command.arguments["level"])
        except (KeyError, ValueError):
            level = -1.0
        if not 0 <= level <= 1:
            return replace(result, ok=False, error="arguments: give level from 0 to 1")
        if not self._worker.set_battery(level):
            return replace(result, ok=False, error="this battery is real and cannot be set")
        return result

    async def _measure(self) -> None:
        """Send telemetry every so often."""
        while True:
            # Spread over the interval, so that a fleet that is set at once does not send at once.
            wait_s = self._worker.telemetry_s * random.random()  # noqa: S311
            while not await self._pace.sleep(wait_s, self._retimed):
                await self._send_telemetry()
                wait_s = self._worker.telemetry_s

    async def _send_telemetry(self) -> None:
        """Number a message, commit it, and send it if there is a connection."""
        sequence = self._next_sequence
        self._next_sequence += 1
        device = self._who.device
        telemetry = self._worker.take(device, self._session, sequence, self._version)
        payload = dump(replace(telemetry, dropped=self._dropped) if self._dropped else telemetry)
        self._dropped = await self._ledger.add(device, sequence, payload)
        if self._client is not None:
            self._post_telemetry(self._client, sequence, payload)

    def _post_telemetry(self, client: BrokerClient, sequence: int, payload: bytes) -> None:
        device, ledger = self._who.device, self._ledger

        def confirm(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is None:
                ledger.confirm(device, sequence)

        client.post(self._who.topic(Kind.TELEMETRY), payload).add_done_callback(confirm)
