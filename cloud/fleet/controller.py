"""The controller's conversation with the broker: receive, keep, acknowledge; desire, command.

A message is acknowledged to the broker only after the store has committed it, and the session
outlives the connection: a controller that is killed gets again what it had not kept. What a killed
broker took with it is noticed as a hole in the sequence numbers and asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cloud.fleet.sequences import Sequences
from cloud.fleet.state import DeviceState, FleetState, RefusedError
from cloud.telemetry.records import Appended, Received, TelemetryStore
from shared.errors import BrokerError, MessageError, StoreError, TakenOverError
from shared.fleet.broker import Broker, BrokerClient
from shared.fleet.messages import (
    ROOT,
    Command,
    Kind,
    Message,
    Reported,
    Result,
    Settings,
    Telemetry,
    Topic,
    parse_topic,
)
from shared.fleet.payloads import dump, load

# In this order: what was desired must be known before what is reported is judged by it.
HEARD = (Kind.BIRTH, Kind.DEATH, Kind.DESIRED, Kind.REPORTED, Kind.TELEMETRY, Kind.RESULT)
LARGEST_BATCH = 2000
MEND_EVERY_S = 1.0
RESENDS_AT_ONCE = 200
RECONNECT_S = 0.5
RETRY_STORE_S = 1.0
THROWN_OUT_TIMES, THROWN_OUT_S = 3, 15.0
_log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What came: messages kept, repeats, and refusals by reason."""

    stored: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    resends: int = 0
    connections: int = 0


class Controller:
    """Talks to one fleet. ``run`` never returns; everything else may be called beside it.

    ``identifier`` names the broker's session, by default after the fleet; of two controllers that
    share one, the earlier ends with ``TakenOverError``. ``store`` None
    keeps nothing: for looking and setting only. ``on_message`` sees what was kept.
    """

    def __init__(
        self,
        broker: Broker,
        fleet: str,
        store: TelemetryStore | None = None,
        identifier: str | None = None,
    ) -> None:
        self.state = FleetState(fleet)
        self.counts = Counts()
        self.connected = asyncio.Event()
        self._broker = broker
        self._store = store
        self._identifier = identifier or f"controller-{fleet}"
        self.on_message: Callable[[Topic, Message], None] | None = None
        self._client: BrokerClient | None = None
        self._losses: list[float] = []  # when connections ended, lately
        self._arrived: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue()
        self._waiting: dict[str, tuple[int, asyncio.Future[Reported]]] = {}
        self._results: dict[str, asyncio.Future[Result]] = {}
        self._asked: dict[str, tuple[tuple[int, int], float]] = {}
        self._commands = itertools.count(1)
        self._prefix = secrets.token_hex(4)  # a result to an earlier controller is not ours

    async def run(self) -> None:
        """Connect, receive, keep and mend until cancelled."""
        if self._store is not None:
            for name, ranges in (await self._store.sequences(self.state.fleet)).items():
                self.state.device(name).sequences = Sequences(ranges)
        while True:
            self._arrived = asyncio.Queue()
            client = BrokerClient(
                self._broker,
                self._identifier,
                lambda topic, payload, number: self._arrived.put_nowait((topic, payload, number)),
                manual_ack=True,
                session_s=0 if self._store is None else 86_400,
            )
            failure: BaseException | None = None
            try:
                async with client, asyncio.TaskGroup() as group:
                    group.create_task(self._keep(client), name="controller keeper")
                    kinds = (f"{ROOT}/{self.state.fleet}/+/{kind.value}" for kind in HEARD)
                    await client.listen(*kinds)
                    self._client = client
                    self.counts.connections += 1
                    self.connected.set()
                    if self._store is not None:
                        group.create_task(self._mend(), name="controller mender")
                    await client.lost()
            except* BrokerError as errors:
                failure = errors.exceptions[0]
            finally:
                self._client = None
                self.connected.clear()
            if failure is not None:
                # To come back after another client has taken over would only throw that one out.
                if isinstance(failure, TakenOverError) or not self.counts.connections:
                    raise failure
                self._count_loss(failure)
                _log.warning("%s; connecting again", failure)
            await asyncio.sleep(RECONNECT_S)

    def _count_loss(self, failure: BaseException) -> None:
        """``TakenOverError`` if a controller that may be spared is thrown out again and again.

        Not every broker says that another client has come with the same name.
        """
        now_s = time.monotonic()
        self._losses = [at_s for at_s in self._losses if at_s > now_s - THROWN_OUT_S]
        self._losses.append(now_s)
        if self._store is None and len(self._losses) >= THROWN_OUT_TIMES:
            raise TakenOverError(
                f"{failure}, {THROWN_OUT_TIMES} times in {THROWN_OUT_S:g} s; "
                "is there another client with this user or client id?"
            ) from None

    async def _keep(self, client: BrokerClient) -> None:
        """Take in what arrives, a batch at a time: check, commit, acknowledge."""
        while True:
            arrived = [await self._arrived.get()]
            while len(arrived) < LARGEST_BATCH and not self._arrived.empty():
                arrived.append(self._arrived.get_nowait())
            now_s = time.time()
            batch = []
            for text, payload, _ in arrived:
                received = self._check(text, payload, now_s)
                if received is not None:
                    batch.append(received)
            if batch and self._store is not None:
                # Shielded: what the state has learnt must be in the store, come what may.
                appended = await asyncio.shield(self._commit(self._store, batch))
                self.counts.stored += appended.stored
                self.counts.duplicates += appended.duplicates
            for _, _, number in arrived:
                if number:
                    client.acknowledge(number)
            for received in batch:
                self._tell(received.topic, received.message)

    async def _commit(self, store: TelemetryStore, batch: Sequence[Received]) -> Appended:
        """Have ``batch`` kept, however long the store is away: the broker holds back the rest."""
        while True:
            try:
                return await store.append(batch)
            except StoreError as error:
                _log.warning("%s; trying again", error)
                await asyncio.sleep(RETRY_STORE_S)

    def _check(self, text: str, payload: bytes, now_s: float) -> Received | None:
        """What came, if it is let in; else it is counted and logged with its topic."""
        if not payload:  # a retained message was cleared
            return None
        try:
            topic = parse_topic(text)
            if topic.fleet != self.state.fleet:  # the session's subscription to another fleet
                return None
            message = load(topic, payload)
            known = self.state.learn(topic, message)
        except MessageError as error:
            self._refuse(error.field, str(error))
            return None
        except RefusedError as error:
            self._refuse(error.field, f"{text}: {error}")
            return None
        if not known:
            # It is in the store, or in the batch that is on its way there.
            self.counts.duplicates += 1
            return None
        return None if topic.kind is Kind.DESIRED else Received(topic, message, now_s)

    def _refuse(self, name: str, text: str) -> None:
        self.counts.refused[name] += 1
        _log.warning("refused: %s", text)

    def _tell(self, topic: Topic, message: Message) -> None:
        """Wake whoever waits for ``message``."""
        if isinstance(message, Reported):
            waiting = self._waiting.get(topic.device)
            if waiting is not None and message.version >= waiting[0] and not waiting[1].done():
                waiting[1].set_result(message)
        elif isinstance(message, Result):
            future = self._results.get(message.id)
            if future is not None and not future.done():
                future.set_result(message)
        if self.on_message is not None:
            self.on_message(topic, message)

    def desire(
        self, devices: Iterable[DeviceState], change: Callable[[DeviceState], Settings]
    ) -> dict[str, asyncio.Future[Reported]]:
        """Give each device its next desired state; futures of what they report.

        All are published at once, without waiting for each other.
        """
        client = self._client
        if client is None:
            raise BrokerError(f"--broker: {self._broker}: is not connected")
        loop = asyncio.get_running_loop()
        futures = {}
        for device in devices:
            desired = device.change(change(device))
            future: asyncio.Future[Reported] = loop.create_future()
            self._waiting[device.name] = (desired.version, future)
            futures[device.name] = future
            topic = Topic(self.state.fleet, device.name, Kind.DESIRED)
            client.post(str(topic), dump(desired), retain=True)
        return futures

    async def command(
        self,
        device: str,
        name: str,
        arguments: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> Result:
        """Have ``device`` do something once; a failed result after ``timeout_s`` of silence."""
        client = self._client
        if client is None:
            raise BrokerError(f"--broker: {self._broker}: is not connected")
        number = f"{self._prefix}-{next(self._commands)}"
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._results[number] = future
        command = Command(number, name, dict(arguments or {}), timeout_s)
        topic = str(Topic(self.state.fleet, device, Kind.COMMAND))
        client.post(topic, dump(command), expiry_s=max(int(timeout_s), 1))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return Result(device, number, ok=False, error=f"no result within {timeout_s:g} s")
        finally:
            del self._results[number]

    async def _mend(self) -> None:
        """Ask for telemetry that is missing, over and over, a few devices at a time."""
        seen: dict[str, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(MEND_EVERY_S)
            holes = {
                name: hole
                for name, device in self.state.devices.items()
                if device.online and (hole := device.sequences.hole()) is not None
            }
            # What is only on its way fills itself: a hole must be seen twice.
            lasting = [name for name, hole in holes.items() if seen.get(name, (0,))[0] == hole[0]]
            seen = holes
            asking = [self._ask_again(name, *holes[name]) for name in lasting[:RESENDS_AT_ONCE]]
            with contextlib.suppress(BrokerError):
                await asyncio.gather(*asking)

    async def _ask_again(self, name: str, first: int, last: int) -> None:
        arguments = {"first": str(first), "last": str(last)}
        self.counts.resends += 1
        result = await self.command(name, "resend", arguments, 5.0)
        if not result.ok:
            return
        if result.values.get("sent") == "0":
            gone = int(result.values.get("last", first))
            if gone >= first:
                self.state.device(name).sequences.give_up(gone)
                _log.warning("%s: telemetry %d to %d is lost: it has it no more", name, first, gone)


def latest(devices: Iterable[DeviceState]) -> list[Telemetry]:
    """The last telemetry of each device that has sent any."""
    return [device.telemetry for device in devices if device.telemetry is not None]
