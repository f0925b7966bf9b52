"""The data that pages show: from a fleet client, the cloud's metrics and the store."""

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
VIEW_S, AT_ONCE = 0.9, 1000  # a view is shared for VIEW_S, as pages refresh every second
STORED = 2000  # messages of a device's timeline that are read from the store
POINT_EVERY_S, POINTS = 5.0, 720  # the fleet's time series covers an hour
RESULT_WITHIN_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FleetPoint:
    """A summary of the fleet at ``unix_s``, by this machine's clock."""

    unix_s: float
    summary: Summary


class LiveFleet:
    """One fleet, followed at its broker. ``run`` never returns; pages call the other methods.

    ``store`` is the URL of the recorder's store; without one (None) timelines begin when the
    dashboard starts. ``cloud`` is the server whose metrics are shown, if any.
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
        self.targets = ["all"]  # targets of changes: all, each group, each device
        self._epochs: dict[str, str] = {}
        self._pending: dict[str, asyncio.Future[Reported]] = {}
        self._results: set[asyncio.Task[None]] = set()
        self.trail = AuditTrail(store, fleet)
        self.points: deque[FleetPoint] = deque(maxlen=POINTS)
        self._point_s = 0.0
        self.broker_error = "not connected yet"
        self._view: View | None = None
        self._view_s = 0.0
        self._changes_made = self._changes_in_view = 0  # numbers of changes of desired states

    async def run(self) -> None:
        """Follow the fleet; connects again whenever the connection is lost."""
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
        """Replace ``targets`` only if names have changed: pages compare the list's identity."""
        state = self._client.state
        found = ["all", *sorted(state.groups()), *sorted(state.devices)]
        if found != self.targets:
            self.targets = found

    def view(self) -> View:
        """Return the contents of the first page, shared by all open pages.

        They are less than a second old with up to ``AT_ONCE`` devices, and in proportion older with
        more.
        """
        now_s = time.monotonic()
        devices = self._client.state.devices
        keep_s = VIEW_S * max(len(devices) / AT_ONCE, 1.0)
        if (
            self._view is None
            or now_s - self._view_s >= keep_s
            or self._changes_in_view != self._changes_made
        ):
            self._forget_reported()
            self._changes_in_view = self._changes_made
            self._view = view(devices, self._tails, self._pending, now_s, self._rows)
            self._find_targets()
            self._view_s = now_s
            if now_s - self._point_s >= POINT_EVERY_S:
                self._point_s = now_s
                self.points.append(FleetPoint(time.time(), self._view.summary))
        return self._view

    @property
    def waiting(self) -> int:
        """Number of devices that have not reported their desired state yet."""
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
        """Return the state of a device; None if the fleet has none of this name."""
        return self._client.state.devices.get(name)

    def count(self, target: str) -> int:
        """Return how many devices ``target`` names; ``UsageError`` if nothing has that name."""
        return len(self._client.state.select(target, "target"))

    async def set(self, person: Person, target: str, values: Mapping[str, Any]) -> int:
        """Change settings of the devices that ``target`` names; return the number of these devices.

        The change is recorded in the audit trail before it is made, its result afterwards. Raises
        ``UsageError`` if nothing has the name ``target``, ``BrokerError`` without a connection, and
        ``StoreError`` if the change cannot be recorded; in all cases nothing is changed.
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
        self._changes_made += 1
        task = asyncio.create_task(self._await_result(change, futures), name="result of a change")
        self._results.add(task)
        task.add_done_callback(self._results.discard)
        return len(futures)

    async def _await_result(
        self, change: ChangeRecord, futures: Mapping[str, asyncio.Future[Reported]]
    ) -> None:
        """Record the result of a change when the devices have reported, or after a while."""
        here = [future for name, future in futures.items() if (one := self.device(name)) is not None
                and one.online]  # fmt: skip
        if here:
            await asyncio.wait(here, timeout=RESULT_WITHIN_S)
        with contextlib.suppress(StoreError):
            await self.trail.finish(change, result_of(futures))

    async def history(self, name: str) -> tuple[list[Telemetry], str]:
        """Return a device's stored timeline and "", or an empty one and the reason."""
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
