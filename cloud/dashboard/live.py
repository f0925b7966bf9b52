"""What runs behind the pages: the broker's side, the cloud's page, the store when asked."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict

from cloud.dashboard.cloud_page import CloudPage
from cloud.dashboard.view import Tail, View, view
from cloud.fleet.controller import Controller
from cloud.fleet.player import merged
from cloud.telemetry.database import reading
from cloud.telemetry.queries import timeline
from shared.errors import BrokerError, TaperError
from shared.fleet.broker import Broker
from shared.fleet.messages import Message, Reported, Settings, Telemetry, Topic

AGAIN_S = 1.0
VIEW_S = 0.9  # pages ask every second
STORED = 2000  # messages of a device's timeline


class LiveFleet:
    """One fleet as the broker tells of it. ``run`` never returns; the rest is for the pages.

    Keeps nothing: the controller does. ``store`` is where it does, if pages may read that.
    """

    def __init__(
        self, broker: Broker, fleet: str, store: str | None, cloud: CloudPage | None
    ) -> None:
        self.fleet = fleet
        self.cloud = cloud
        self._store = store
        self._controller = Controller(broker, fleet, None, f"dashboard-{os.getpid()}")
        self._controller.on_message = self._see
        self._tails: defaultdict[str, Tail] = defaultdict(Tail)
        self._pending: dict[str, asyncio.Future[Reported]] = {}
        self.broker_error = "not connected yet"
        self._view: View | None = None
        self._view_s = 0.0

    async def run(self) -> None:
        """Follow the fleet; a broker that is away is tried again for ever."""
        while True:
            try:
                await self._controller.run()
            except BrokerError as error:
                self.broker_error = str(error)
            await asyncio.sleep(AGAIN_S)

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._controller.connected.is_set()

    @property
    def targets(self) -> list[str]:
        """What can be set: all, each group, each device."""
        state = self._controller.state
        return ["all", *sorted(state.groups()), *sorted(state.devices)]

    def view(self) -> View:
        """The fleet as it is, or was less than a second ago: all open pages share it."""
        now_s = time.monotonic()
        if self._view is None or now_s - self._view_s >= VIEW_S:
            self._forget_reported()
            self._view = view(self._controller.state.devices, self._tails, self._pending)
            self._view_s = now_s
        return self._view

    @property
    def waiting(self) -> int:
        """How many devices were told something that they have not reported yet."""
        self._forget_reported()
        return len(self._pending)

    def pending(self, name: str) -> bool:
        """Whether ``name`` was told something that it has not reported yet."""
        self._forget_reported()
        return name in self._pending

    def tail(self, name: str) -> list[Telemetry]:
        """What came from a device since this page runs."""
        return list(self._tails[name].messages) if name in self._tails else []

    def reported(self, name: str) -> Reported | None:
        """What a device says that it works with."""
        device = self._controller.state.devices.get(name)
        return None if device is None else device.reported

    def set(self, target: str, change: Settings) -> int:
        """Have the devices that ``target`` names change; how many they are.

        Raises ``UsageError`` for a target that nothing has, ``BrokerError`` without a broker.
        """
        devices = self._controller.state.select(target, "target")
        futures = self._controller.desire(
            devices, lambda device: merged(device.desired.settings, change)
        )
        self._pending.update(futures)
        return len(futures)

    async def history(self, name: str) -> tuple[list[Telemetry], str]:
        """The stored timeline of a device, and why there is none if so."""
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
