"""The data behind the pages: a fleet client, the cloud's metrics page, the store."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from cloud.dashboard.cloud_page import CloudPage
from cloud.dashboard.view import Tail, View, view
from cloud.fleet.changes import setting
from cloud.fleet.client import FleetClient
from cloud.telemetry.database import reading
from cloud.telemetry.queries import timeline
from shared.errors import BrokerError, TaperError
from shared.fleet.broker import Broker
from shared.fleet.messages import Message, Reported, Telemetry, Topic

AGAIN_S = 1.0
VIEW_S = 0.9  # pages ask every second
STORED = 2000  # messages of a device's timeline


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
        self._pending: dict[str, asyncio.Future[Reported]] = {}
        self.broker_error = "not connected yet"
        self._view: View | None = None
        self._view_s = 0.0

    async def run(self) -> None:
        """Follow the fleet; connect again whenever the broker is away."""
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

    @property
    def targets(self) -> list[str]:
        """Names that can be set: all, each group, each device."""
        state = self._client.state
        return ["all", *sorted(state.groups()), *sorted(state.devices)]

    def view(self) -> View:
        """Return the fleet as of less than a second ago; all open pages share one view."""
        now_s = time.monotonic()
        if self._view is None or now_s - self._view_s >= VIEW_S:
            self._forget_reported()
            self._view = view(self._client.state.devices, self._tails, self._pending)
            self._view_s = now_s
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

    def reported(self, name: str) -> Reported | None:
        """Return what a device reports to work with."""
        device = self._client.state.devices.get(name)
        return None if device is None else device.reported

    def set(self, target: str, values: Mapping[str, Any]) -> int:
        """Change settings of the devices that ``target`` names; return how many these are.

        Raises ``UsageError`` for a target that nothing has, ``BrokerError`` without a broker.
        """
        devices = self._client.state.select(target, "target")
        futures = self._client.desire(devices, setting(values))
        self._pending.update(futures)
        return len(futures)

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
        if isinstance(message, Telemetry):
            tail = self._tails[topic.device]
            tail.messages.append(message)
            tail.seen_s = time.time()

    def _forget_reported(self) -> None:
        for name in [name for name, future in self._pending.items() if future.done()]:
            del self._pending[name]
