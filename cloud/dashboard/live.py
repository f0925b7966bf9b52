"""The data behind the pages: a fleet client, the cloud's metrics page, the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloud.dashboard.audit import AuditTrail
from cloud.dashboard.cloud_page import CloudPage
from cloud.dashboard.people import Person
from cloud.dashboard.view import Rows, Summary, Tail, View, view
from cloud.fleet.changes import result_of, setting
from cloud.fleet.client import FleetClient
from cloud.fleet.state import DeviceState
from cloud.telemetry.database import reading
from cloud.telemetry.queries import timeline
from cloud.telemetry.trail import ChangeRecord, epoch_of
from shared.errors import BrokerError, StoreError, TaperError, UsageError
from shared.fleet.broker import Broker
from shared.fleet.messages import Birth, Message, Reported, Telemetry, Topic

AGAIN_S = 1.0
VIEW_S, AT_ONCE = 0.9, 1000  # pages ask every second
STORED = 2000  # messages of a device's timeline
POINT_EVERY_S, POINTS = 5.0, 720  # of the time series of the whole fleet: an hour
RESULT_WITHIN_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FleetPoint:
    """The whole fleet at ``unix_s``, by this machine's clock."""

    unix_s: float
    summary: Summary


class LiveFleet:
    """One fleet, followed at the broker. ``run`` never returns; the rest is for the pages.

    ``store`` is where a recorder keeps telemetry; None shows what arrives while the page runs.
    """

    def __init__(
        self, broker: Broker, fleet: str, store: str | None, cloud: CloudPage | None
    ) -> None:
        self.fleet = fleet
        self.cloud = cloud
        self._store = store
        self._client = FleetClient(broker, fleet)
        self._client.listeners.append(self._see)
        self._tails: defaultdict[str, Tail] = defaultdict(Tail)
        self._rows = Rows()
        self.targets = ["all"]  # names that can be set: all, each group, each device
        self._epochs: dict[str, str] = {}
        self._pending: dict[str, asyncio.Future[Reported]] = {}
        self._results: set[asyncio.Task[None]] = set()
        self.trail = AuditTrail(store, fleet)
        self.points: deque[FleetPoint] = deque(maxlen=POINTS)
        self._point_s = 0.0
        self.broker_error = "not connected yet"
        self._view: View | None = None
        self._view_s = 0.0
        self._asked = self._told = 0  # changes, and those that the view shows

    async def run(self) -> None:
        """Follow the fleet; connect again whenever the broker is away."""
        try:
            await self.trail.open()
        except TaperError as error:
            _log.warning("%s; the audit trail begins now", error)
        while True:
            try:
                await self._client.run()
            except BrokerError as error:
                self.broker_error = str(error)
            await asyncio.sleep(AGAIN_S)

    @property
    def connected(self) -> bool:
        """Whether the broker is connected."""
        return self._client.connected.is_set()

    def _find_targets(self) -> None:
        """Keep the same list as long as the names are the same: pages compare it."""
        state = self._client.state
        found = ["all", *sorted(state.groups()), *sorted(state.devices)]
        if found != self.targets:
            self.targets = found

    def view(self) -> View:
        """Return the fleet as of a short time ago; all open pages share one view.

        That is less than a second up to ``AT_ONCE`` devices, and longer in proportion above.
        """
        now_s = time.monotonic()
        devices = self._client.state.devices
        keep_s = VIEW_S * max(len(devices) / AT_ONCE, 1.0)
        if self._view is None or now_s - self._view_s >= keep_s or self._told != self._asked:
            self._forget_reported()
            self._told = self._asked
            self._view = view(devices, self._tails, self._pending, now_s, self._rows)
            self._find_targets()
            self._view_s = now_s
            if now_s - self._point_s >= POINT_EVERY_S:
                self._point_s = now_s
                self.points.append(FleetPoint(time.time(), self._view.summary))
        return self._view

    @property
    def waiting(self) -> int:
        """How many devices have not reported their desired state yet."""
        self._forget_reported()
        return len(self._pending)

    def pending(self, name: str) -> bool:
        """Whether ``name`` has not reported its desired state yet."""
        self._forget_reported()
        return name in self._pending

    def tail(self, name: str) -> list[Telemetry]:
        """Return the telemetry of a device since the dashboard started."""
        return list(self._tails[name].messages) if name in self._tails else []

    def device(self, name: str) -> DeviceState | None:
        """Return the state of a device; None for a name that the fleet does not have."""
        return self._client.state.devices.get(name)

    def count(self, target: str) -> int:
        """Return how many devices ``target`` names; ``UsageError`` if nothing has that name."""
        return len(self._client.state.select(target, "target"))

    async def set(self, person: Person, target: str, values: Mapping[str, Any]) -> int:
        """Change settings of the devices that ``target`` names; return how many these are.

        The change is in the audit trail before it is made, and its result afterwards. Raises
        ``UsageError`` for a target that nothing has, ``BrokerError`` without a broker, and
        ``StoreError`` if it cannot be written down; then nothing is changed.
        """
        if not person.may_set:
            raise UsageError(f"{person.name} may look, and not change settings")
        devices = self._client.state.select(target, "target")
        what = " ".join(f"{name}={'' if one is None else one}" for name, one in values.items())
        change = await self.trail.begin(person.name, target, what)
        try:
            futures = self._client.desire(devices, setting(values))
        except BrokerError as error:
            await self.trail.finish(change, f"failed: {error}")
            raise
        self._pending.update(futures)
        self._asked += 1
        task = asyncio.create_task(self._await_result(change, futures), name="result of a change")
        self._results.add(task)
        task.add_done_callback(self._results.discard)
        return len(futures)

    async def _await_result(
        self, change: ChangeRecord, futures: Mapping[str, asyncio.Future[Reported]]
    ) -> None:
        """Write the result of a change down once the devices have reported, or after a while."""
        here = [future for name, future in futures.items() if (one := self.device(name)) is not None
                and one.online]  # fmt: skip
        if here:
            await asyncio.wait(here, timeout=RESULT_WITHIN_S)
        with contextlib.suppress(StoreError):
            await self.trail.finish(change, result_of(futures))

    async def history(self, name: str) -> tuple[list[Telemetry], str]:
        """Return the stored timeline of a device, or an empty one and the reason."""
        if self._store is None:
            return [], ""
        try:
            return await asyncio.to_thread(self._stored, self._store, name), ""
        except TaperError as error:
            return [], str(error)

    def _stored(self, store: str, name: str) -> list[Telemetry]:
        with reading(store) as connection:
            return timeline(connection, self.fleet, name, limit=STORED)

    def _see(self, topic: Topic, message: Message) -> None:
        self._rows.change(topic.device)
        if isinstance(message, Telemetry):
            self._tails[topic.device].add(message, time.time(), len(self._tails))
        elif isinstance(message, Birth):
            before = self._epochs.get(topic.device)
            self._epochs[topic.device] = epoch = message.epoch
            if before is not None and before != epoch:
                self.trail.note(epoch_of(self.fleet, topic.device, epoch, before, time.time()))

    def _forget_reported(self) -> None:
        for name in [name for name, future in self._pending.items() if future.done()]:
            del self._pending[name]
