"""One device of a fleet: sends telemetry over MQTT, applies desired state, answers commands.

The same agent runs a real device (``python -m device.agent``) and each simulated one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from aiomqtt import Will
from msgspec.structs import replace

from device.agent.classifier import Classifier
from device.agent.identity import AgentIdentity, software
from device.agent.ledger import Ledger, Session
from device.agent.pace import Pace
from device.agent.standing import Standing
from device.energy.clock import boot_s
from shared.errors import BrokerError, MessageError, UsageError
from shared.fleet.broker import Broker, BrokerClient
from shared.fleet.messages import (
    PROTOCOL,
    Birth,
    Command,
    Death,
    Desired,
    Message,
    MessageKind,
    RefusedSetting,
    Reported,
    Result,
    Telemetry,
    Topic,
    parse_topic,
)
from shared.fleet.payloads import dump, load

RESEND_AT_MOST = 500  # messages that one command can request
HELD = 2000  # telemetry messages that may wait in memory while the disk fails
WITHOUT_DISK_S = 600.0  # if the ledger fails for longer, it continues in memory
FAREWELL_S = 2.0
_log = logging.getLogger(__name__)


class Agent:
    """Runs one device: stays connected, classifies and reports. ``run`` never returns.

    ``find_broker`` is called before each connection, by default it returns ``broker``.
    """

    def __init__(
        self,
        identity: AgentIdentity,
        broker: Broker,
        classifier: Classifier,
        ledger: Ledger,
        pace: Pace,
        find_broker: Callable[[], Broker] | None = None,
    ) -> None:
        self._who = identity
        self._broker = broker
        self._find_broker = find_broker
        self._classifier = classifier
        classifier.on_model = self._report
        self._ledger = ledger
        self._pace = pace
        self._client: BrokerClient | None = None
        self._session = Session("", 0, 1)
        self._next_sequence = 1
        self._desired = Desired(0)
        self._dropped = 0
        self._held: deque[Telemetry] = deque()  # not numbered yet, since the ledger fails
        self._failing_s: float | None = None  # when the ledger began to fail
        self._refused: tuple[RefusedSetting, ...] = ()
        self._inbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._retimed = asyncio.Event()
        self.connected = asyncio.Event()
        self.refusals = 0
        self._standing = Standing(identity.device)
        self._numbering = asyncio.Lock()
        self._measuring: asyncio.Task[None] | None = None
        self._own_birth: Birth | None = None
        self._outdated = asyncio.Event()  # the session's numbers no longer match the ledger's

    async def run(self) -> None:
        """Classify, report and follow desired states and commands until cancelled."""
        async with asyncio.TaskGroup() as group:
            name = self._who.device
            group.create_task(self._classifier.run(), name=f"{name} images")
            group.create_task(self._listen(), name=f"{name} orders")
            group.create_task(self._stay_connected(group), name=f"{name} broker")

    async def _stay_connected(self, group: asyncio.TaskGroup) -> None:
        """Keep a connection to the broker; connects again when it is lost."""
        standing = self._standing
        while True:
            try:
                self._session = await self._ledger.begin(self._who.device)
            except UsageError as error:  # e.g. a full disk; try again later
                standing.lose(BrokerError(str(error)))
                await asyncio.sleep(standing.wait_s())
                continue
            if self._measuring is None or self._outdated.is_set():
                self._next_sequence = self._session.next_sequence
                self._outdated.clear()
            if self._measuring is None:
                await self._restore_desired()
                self._measuring = group.create_task(self._measure(), name="telemetry")
            try:
                await self._converse()
            except BrokerError as error:
                standing.lose(error)
            finally:
                self._client = None
                self.connected.clear()
            await asyncio.sleep(standing.wait_s())

    @property
    def status(self) -> str:
        """Describe in a line whether the agent is connected and, if not, why."""
        standing = self._standing
        where = f"connected to {self._broker}" if self.connected.is_set() else standing.failure
        parts = (where or "connecting", standing.namesake)
        return f"{self._who.fleet}/{self._who.device}: {'; '.join(filter(None, parts))}"

    def _renew_broker(self) -> None:
        """Read the broker's certificates again, as they may have been renewed."""
        if self._find_broker is not None:
            try:
                self._broker = self._find_broker()
            except UsageError as error:  # e.g. only some of the new files have been written
                _log.warning("%s: the old certificates are used: %s", self._who.device, error)

    async def _converse(self) -> None:
        """Run one connection, until it is lost or this task is cancelled."""
        who = self._who
        self._renew_broker()
        will = self._death("connection lost")
        client = BrokerClient(
            self._broker,
            f"{who.fleet}/{who.device}",
            self._receive,
            will=Will(who.topic(MessageKind.DEATH), dump(will), qos=1, retain=True),
        )
        async with client:
            await self._announce(client)
            await client.listen(who.topic(MessageKind.DESIRED), who.topic(MessageKind.COMMAND))
            self._client = client
            self._report()
            for sequence, payload in await self._ledger.unconfirmed(who.device):
                self._post_telemetry(client, sequence, payload)
            self.connected.set()
            _log.info("%s: connected to %s", self._who.device, self._broker)
            self._standing.record_connected()
            try:
                await self._until_lost(client)
            except asyncio.CancelledError:
                # Bounded, as the disk may hang and the broker may be away.
                if self._measuring is not None:  # on its end it sends the last samples' telemetry
                    await asyncio.wait((self._measuring,), timeout=FAREWELL_S)
                payload = dump(self._death("stopped"))
                leaving = client.post(who.topic(MessageKind.DEATH), payload, retain=True)
                await asyncio.wait((leaving,), timeout=FAREWELL_S)
                raise

    async def _announce(self, client: BrokerClient) -> None:
        """Publish the birth, after subscribing to its topic for births of earlier runs."""
        topic = self._who.topic(MessageKind.BIRTH)
        self._own_birth = self._birth()
        self._standing.announce(self._own_birth)
        with suppress(BrokerError):  # some brokers do not allow it
            await client.listen(topic, own=True)
        await client.post(topic, dump(self._own_birth), retain=True)

    async def _until_lost(self, client: BrokerClient) -> None:
        """Wait until the connection is lost or the ledger is found to be outdated."""
        waiting = [asyncio.ensure_future(one) for one in (client.lost(), self._outdated.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if self._outdated.is_set():
            raise BrokerError("another ledger is used; a new epoch begins")
        waiting[0].result()

    async def _compare(self, birth: Birth) -> None:
        """Begin a new epoch if ``birth`` has a later session, since the ledger is then an
        old copy.
        """
        self._standing.examine(birth)
        ours = self._session
        if birth == self._own_birth or birth.epoch != ours.epoch or birth.session < ours.number:
            return
        async with self._numbering:
            self._dropped += await self._ledger.renew(self._who.device)
            self._outdated.set()

    def _birth(self) -> Birth:
        architecture = self._classifier.bundle.architecture
        return Birth(
            device=self._who.device,
            session=self._session.number,
            epoch=self._session.epoch,
            next_sequence=self._next_sequence,
            unix_s=round(self._pace.now_unix_s(), 3),
            protocol=PROTOCOL,
            groups=self._who.groups,
            hardware=self._who.hardware,
            software=software(),
            levels=tuple(architecture.device_levels),
            exit_head=architecture.exit_head,
            simulated=self._who.simulated,
        )

    def _death(self, reason: str) -> Death:
        return Death(self._who.device, self._session.number, reason, self._session.epoch)

    def _receive(self, topic: str, payload: bytes, number: int) -> None:  # noqa: ARG002 - acknowledged on arrival
        self._inbox.put_nowait((topic, payload))

    async def _listen(self) -> None:
        """Handle messages in order; a message that fails is counted and logged."""
        while True:
            topic, payload = await self._inbox.get()
            try:
                message = load(parse_topic(topic), payload)
                await self._follow(message)
            except MessageError as error:
                self.refusals += 1
                _log.warning("refused: %s", error)
            except Exception:  # noqa: BLE001 - no message may stop the device
                self.refusals += 1
                _log.exception("%s: cannot be processed", topic[:300])

    async def _follow(self, message: Message) -> None:
        if isinstance(message, Desired):
            if message.version < self._desired.version:
                self.refusals += 1
                _log.warning("refused: desired version %d is an old one", message.version)
            elif message != self._desired:  # of an equal version, the later message counts
                await self._apply(message)
                try:
                    await self._ledger.keep_desired(self._who.device, dump(message))
                except UsageError as error:
                    _log.warning("%s: the desired state is not kept: %s", self._who.device, error)
                self._retimed.set()
            self._report()
        elif isinstance(message, Command):
            await self._do(message)
        elif isinstance(message, Birth):
            await self._compare(message)

    async def _apply(self, desired: Desired) -> None:
        self._refused = await self._classifier.apply(desired.settings)
        self._desired = desired

    async def _restore_desired(self) -> None:
        """Apply the desired state of the last run, until the broker delivers one."""
        payload = await self._ledger.desired(self._who.device)
        if payload is None:
            return
        try:
            desired = load(Topic(self._who.fleet, self._who.device, MessageKind.DESIRED), payload)
        except MessageError as error:
            _log.warning("%s; the kept desired state is not used", error)
            return
        if isinstance(desired, Desired):
            await self._apply(desired)

    def _report(self) -> None:
        if self._client is None:
            return
        reported = Reported(
            device=self._who.device,
            session=self._session.number,
            epoch=self._session.epoch,
            version=self._desired.version,
            settings=self._classifier.settings,
            refused=self._refused,
            model_version=self._classifier.bundle.metadata.version,
            unix_s=round(self._pace.now_unix_s(), 3),
        )
        self._client.post(self._who.topic(MessageKind.REPORTED), dump(reported), retain=True)

    async def _do(self, command: Command) -> None:
        """Execute a command and send its result."""
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
                why = f"name: {command.name!r} is unknown; known are ping, measure, resend, battery"
                result = replace(result, ok=False, error=why)
        if self._client is not None:
            self._client.post(self._who.topic(MessageKind.RESULT), dump(result))

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
        oldest = await self._ledger.oldest(self._who.device) or self._next_sequence
        values = {"first": first, "last": last, "sent": len(entries), "oldest": oldest}
        return replace(result, values={name: str(value) for name, value in values.items()})

    def _set_battery(self, command: Command, result: Result) -> Result:
        try:
            level = float(command.arguments["level"])
        except (KeyError, ValueError):
            level = -1.0
        if not 0 <= level <= 1:
            return replace(result, ok=False, error="arguments: give level from 0 to 1")
        if not self._classifier.set_battery(level):
            return replace(result, ok=False, error="this battery is real and cannot be set")
        return result

    async def _measure(self) -> None:
        """Send telemetry every ``telemetry_s`` seconds."""
        while True:
            # A random first wait, so that devices set at the same time do not send together.
            wait_s = self._classifier.telemetry_s * random.random()  # noqa: S311
            try:
                while not await self._pace.sleep(wait_s, self._retimed):
                    await asyncio.shield(self._send_telemetry())  # or a number is used twice
                    wait_s = self._classifier.telemetry_s
            except asyncio.CancelledError:
                await self._classifier.finish()
                await self._send_telemetry()  # the last samples; delivered later if offline
                raise

    async def _send_telemetry(self) -> None:
        """Take the telemetry of the period, number it, commit it to the ledger, and send it.

        If the ledger cannot be written, e.g. because the disk is full, messages wait in memory for
        their numbers. If more than ``HELD`` wait, the oldest is dropped and counted.
        """
        device = self._who.device
        async with self._numbering:
            made = self._classifier.take(device, self._session.number, 1, self._desired.version)
            namesake = self._standing.namesake
            if namesake and not made.error:
                made = replace(made, error=namesake)
            if len(self._held) == HELD:
                self._held.popleft()
                self._dropped += 1
            self._held.append(made)
            while self._held and not self._outdated.is_set():
                sequence, ours = self._next_sequence, self._session
                place = {"session": ours.number, "epoch": ours.epoch, "sequence": sequence}
                payload = dump(replace(self._held[0], dropped=self._dropped, **place))
                try:
                    self._dropped = await self._ledger.add(device, sequence, payload)
                except UsageError as error:
                    await self._keep_waiting(error)
                    return
                self._held.popleft()
                self._failing_s = None
                self._next_sequence = sequence + 1
                if self._client is not None:
                    self._post_telemetry(self._client, sequence, payload)
                self._classifier.draw_telemetry(len(payload))

    async def _keep_waiting(self, error: UsageError) -> None:
        """Log once that the ledger fails; if that lasts, let it continue without its file."""
        now_s = boot_s()
        if self._failing_s is None:
            self._failing_s = now_s
            _log.warning("%s: telemetry waits in memory: %s", self._who.device, error)
        elif now_s - self._failing_s > WITHOUT_DISK_S and not self._who.simulated:
            self._failing_s = None
            await self._ledger.leave_disk()
            self._outdated.set()

    def _post_telemetry(self, client: BrokerClient, sequence: int, payload: bytes) -> None:
        device, ledger = self._who.device, self._ledger

        def confirm(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and future.exception() is None:
                ledger.confirm(device, sequence)

        client.post(self._who.topic(MessageKind.TELEMETRY), payload).add_done_callback(confirm)
