"""The client of a fleet: follow its state, change desired states, send commands.

Every message passes the same steps: parse, check, update the state, hand to the sink, acknowledge,
notify listeners. A message that fails in a step is counted, logged with its topic and acknowledged
like the others; otherwise the broker would deliver it again and stop the client again. The recorder
passes a sink that stores messages; ``set``, ``watch`` and the dashboard need none.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from cloud.fleet.changes import Change, Changes
from cloud.fleet.refusal_log import RefusalLog, count
from cloud.fleet.state import DeviceState, FleetState, RefusedError
from cloud.telemetry.arrival import ArrivalClock
from cloud.telemetry.records import Received
from shared.errors import BrokerError, MessageError, TakenOverError
from shared.fleet.broker import Broker, BrokerClient
from shared.fleet.losses import Losses
from shared.fleet.messages import (
    RETAINED,
    ROOT,
    Birth,
    Command,
    Desired,
    Message,
    MessageKind,
    Reported,
    Result,
    Telemetry,
    Topic,
    parse_topic,
)
from shared.fleet.payloads import dump, load

# The order matters: a desired state must be known before a reported one is checked against it.
FOLLOWED = (
    MessageKind.BIRTH,
    MessageKind.DEATH,
    MessageKind.DESIRED,
    MessageKind.REPORTED,
    MessageKind.TELEMETRY,
    MessageKind.RESULT,
)
LARGEST_BATCH = 2000
TURN_S = 0.05  # longest time of processing messages before other tasks get a turn
RECONNECT_S = 0.5
SETTLE_S = 0.5  # without a marker, states count as complete after this long without a new device
COMPLETE_WITHIN_S = 60.0
R = TypeVar("R")
Sink = Callable[[Sequence[Received]], Awaitable[None]]
Listener = Callable[[Topic, Message], None]
_log = logging.getLogger(__name__)


async def discard_batch(batch: Sequence[Received]) -> None:
    """Do nothing: the sink of clients that only follow the fleet."""


@dataclass
class MessageCounts:
    """Counts of messages: ``refused`` by the field at fault, ``failed`` by kind of message."""

    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    connections: int = 0


class FleetClient:
    """Follows one fleet. ``run`` never returns; the other methods are called while it runs.

    ``identifier`` names the session at the broker. It is random by default, since two clients with
    the same identifier disconnect each other. The broker keeps the session, and queues its
    messages, for ``session_s`` seconds after a disconnect; with more than 0 a stable identifier is
    needed.
    """

    def __init__(
        self,
        broker: Broker,
        fleet: str,
        identifier: str | None = None,
        sink: Sink = discard_batch,
        session_s: int = 0,
    ) -> None:
        self.state = FleetState(fleet)
        self.counts = MessageCounts()
        self.connected = asyncio.Event()
        self.complete = asyncio.Event()
        self.listeners: list[Listener] = []
        self.clock = ArrivalClock()
        self.retained: dict[str, int] = {}  # versions of desired states at the broker, by device
        self._unconfirmed: set[asyncio.Future[None]] = set()  # publications of desired states
        self.on_retired: Callable[[str], object] = lambda _: None
        self._broker = broker
        self._identifier = identifier or f"client-{secrets.token_hex(6)}"
        self._sink = sink
        self._session_s = session_s
        self._client: BrokerClient | None = None
        self._losses = Losses()
        self._refusals = RefusalLog()
        self._arrived: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue()
        self._changes = Changes(self._publish)
        self._results: dict[str, asyncio.Future[Result]] = {}
        self._commands = itertools.count(1)
        self._prefix = secrets.token_hex(4)  # tells our results and marker from other clients'
        self._marker = f"{ROOT}/{fleet}/_sync/{self._identifier}"

    async def run(self) -> None:
        """Connect and follow until cancelled; connects again when the connection is lost.

        Raises ``BrokerError`` if the first connection fails, and ``TakenOverError`` if another
        client has connected with this identifier: connecting again would only disconnect that
        client.
        """
        while True:
            try:
                await self._follow()
            except* BrokerError as errors:
                failure = errors.exceptions[0]
                if isinstance(failure, TakenOverError) or not self.counts.connections:
                    raise failure from None
                if not self._session_s and self._losses.repeated():
                    text = "is there another client with this user or client id?"
                    raise TakenOverError(f"{failure}, again and again; {text}") from None
                _log.warning("%s; connecting again", failure)
            finally:
                self._client = None
                self.connected.clear()
                self.complete.clear()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A task group that fails while being cancelled raises only its failure.
                raise asyncio.CancelledError
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self) -> None:
        """Follow the fleet over one connection, until it is lost."""
        arrived: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue()
        self._arrived = arrived
        client = BrokerClient(
            self._broker,
            self._identifier,
            lambda topic, payload, number: arrived.put_nowait((topic, payload, number)),
            manual_ack=True,
            session_s=self._session_s,
        )
        async with client, asyncio.TaskGroup() as group:
            group.create_task(self._receive(client), name="fleet messages")
            self.retained.clear()
            await client.listen(*(f"{ROOT}/{self.state.fleet}/+/{kind.value}" for kind in FOLLOWED))
            self._client = client
            self.counts.connections += 1
            self.connected.set()
            group.create_task(self._wait_for_retained(client), name="fleet retained states")
            await client.lost()

    async def _wait_for_retained(self, client: BrokerClient) -> None:
        """Set ``complete`` once all retained states have arrived.

        The broker queues retained messages when it confirms the subscription, so a marker that is
        published afterwards arrives after them. If the broker's rules forbid the marker, the states
        count as complete when no new device has appeared for ``SETTLE_S``.
        """
        try:
            await client.listen(self._marker, own=True)
            await client.post(self._marker, self._prefix.encode())
        except BrokerError:
            known = -1
            while known != len(self.state.devices) or not self._arrived.empty():
                known = len(self.state.devices)
                await asyncio.sleep(SETTLE_S)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(COMPLETE_WITHIN_S):
                    await self.complete.wait()
        self.complete.set()

    async def _receive(self, client: BrokerClient) -> None:
        """Process messages in batches; other tasks run in between.

        Nothing is awaited between updating the state by a message and handing it to the sink. If
        that were interrupted, the message would be known but not stored, and would be taken for a
        duplicate when the broker sends it again.
        """
        while True:
            arrived = [await self._arrived.get()]
            until_s, now_s = time.monotonic() + TURN_S, self.clock()
            batch = []
            while True:
                text, payload, _ = arrived[-1]
                received = self._guard(text, partial(self._check, text, payload, now_s))
                if received is not None:
                    batch.append(received)
                if (
                    self._arrived.empty()
                    or len(arrived) >= LARGEST_BATCH
                    or time.monotonic() > until_s
                ):
                    break
                arrived.append(self._arrived.get_nowait())
            await self._sink(batch)
            for _, _, number in arrived:
                if number:
                    client.acknowledge(number)
            for one in batch:
                self._guard(str(one.topic), partial(self._notify, one.topic, one.message))
            await asyncio.sleep(0)

    def _guard(self, text: str, handle: Callable[[], R]) -> R | None:
        """Call ``handle`` for a message on topic ``text``; a failure is counted and logged."""
        try:
            return handle()
        except MessageError as error:
            count(self.counts.refused, error.field)
            self._refusals.warn(f"refused: {error}")
        except RefusedError as error:
            count(self.counts.refused, error.field)
            self._refusals.warn(f"refused: {text}: {error}")
        except Exception:  # noqa: BLE001 - one message must not stop the client
            self.counts.failed[text.rpartition("/")[2][:20]] += 1
            _log.exception("%s: cannot be processed", text[:300])
        return None

    def _check(self, text: str, payload: bytes, now_s: float) -> Received | None:
        """Parse a message and update the state; return it if it is new and allowed, else None."""
        if text == self._marker:
            if payload == self._prefix.encode():
                self.complete.set()
            return None
        topic = parse_topic(text)
        if topic.fleet != self.state.fleet:  # from an earlier subscription of this session
            return None
        if not payload:
            if self.state.clear(topic):
                self.on_retired(topic.device)
            return None
        message = load(topic, payload)
        if isinstance(message, Desired):
            self.retained[topic.device] = message.version
        if not self.state.learn(topic, message):
            # The first copy is stored, or is in the batch that is being stored.
            self.counts.duplicates += 1
            return None
        return Received(topic, message, now_s)

    def _notify(self, topic: Topic, message: Message) -> None:
        """Resolve the futures that wait for ``message``, and call the listeners."""
        if isinstance(message, Birth | Telemetry):
            device = self.state.device(topic.device)
            device.seen_s = time.monotonic()
            device.clock_off_s = message.unix_s - time.time()
        elif isinstance(message, Reported):
            self._changes.reported(topic.device, message)
        elif isinstance(message, Desired):
            self._changes.desired_by_another(self.state.device(topic.device), message)
        elif isinstance(message, Result):
            future = self._results.get(message.id)
            if future is not None and not future.done():
                future.set_result(message)
        for listener in self.listeners:
            listener(topic, message)

    def _publish(self, device: str, desired: Desired) -> asyncio.Future[None]:
        topic = Topic(self.state.fleet, device, MessageKind.DESIRED)
        sent = self._connection().post(str(topic), dump(desired), retain=True)
        self.retained[device] = desired.version
        self._unconfirmed.add(sent)

        def confirmed(sent: asyncio.Future[None]) -> None:
            self._unconfirmed.discard(sent)
            if sent.cancelled() or sent.exception() is not None:
                self.retained.pop(device, None)

        sent.add_done_callback(confirmed)
        return sent

    def lost(self, names: Iterable[str] | None = None) -> list[DeviceState]:
        """Return the devices whose desired state the broker has lost, e.g. since it was killed.

        That is a state which is known here and not retained at the broker. Only ``names`` are
        checked, by default all connected devices. Retired devices are left out.
        """
        known = self.state.devices
        if names is None:
            devices = [device for device in known.values() if device.online]
        else:
            devices = [known[name] for name in names if name in known]
        return [one for one in devices if one.desired.version > self.retained.get(one.name, 0)]

    def restore(self, names: Iterable[str] | None = None) -> list[str]:
        """Publish ``lost`` desired states again; return the names of their devices.

        Must be called after the states are ``complete``.
        """
        lost = self.lost(names)
        for device in lost:
            self._publish(device.name, device.desired)
        return [device.name for device in lost]

    def settled(self, names: Iterable[str]) -> bool:
        """Whether the broker has confirmed the latest desired states of all ``names``."""
        return self.complete.is_set() and not self._unconfirmed and not self.lost(names)

    def _connection(self) -> BrokerClient:
        if self._client is None:
            raise BrokerError(f"--broker: {self._broker}: is not connected")
        return self._client

    def desire(
        self, devices: Iterable[DeviceState], change: Change
    ) -> dict[str, asyncio.Future[Reported]]:
        """Apply ``change`` to the desired states; return futures of the reports by device.

        All states are published at once. ``BrokerError`` without a connection.
        """
        self._connection()
        return {device.name: self._changes.start(device, change) for device in devices}

    async def retire(self, device: str) -> None:
        """Clear the retained states of a device at the broker, and so in every client."""
        client = self._connection()
        topics = [Topic(self.state.fleet, device, kind) for kind in RETAINED]
        await asyncio.gather(*(client.post(str(topic), b"", retain=True) for topic in topics))

    async def command(
        self,
        device: str,
        name: str,
        arguments: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> Result:
        """Send the command ``name`` to ``device`` and wait for its result.

        After ``timeout_s`` without an answer a failed result is returned.
        """
        number = f"{self._prefix}-{next(self._commands)}"
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        command = Command(number, name, dict(arguments or {}), timeout_s)
        topic = str(Topic(self.state.fleet, device, MessageKind.COMMAND))
        self._connection().post(topic, dump(command), expiry_s=max(int(timeout_s), 1))
        self._results[number] = future
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return Result(device, number, ok=False, error=f"no result within {timeout_s:g} s")
        finally:
            del self._results[number]
