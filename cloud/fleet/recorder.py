"""The recorder: a fleet client that stores messages and requests missing ones from devices.

A message is acknowledged to the broker only after the store has committed it, and the session at
the broker outlives the connection. So a recorder that was killed receives the messages again that
it had not stored. Messages that a killed broker lost appear as gaps in the sequence numbers and are
requested from the device.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from cloud.fleet.client import FleetClient
from cloud.fleet.exits import FleetExits
from cloud.fleet.sequences import Sequences
from cloud.fleet.state import FleetState
from cloud.telemetry.records import Appended, Received, TelemetryStore
from shared.errors import BrokerError, StoreError
from shared.fleet.broker import Broker

SESSION_S = 86_400
MEND_EVERY_S = 1.0
RESENDS_AT_ONCE = 200
RESEND_WITHIN_S = 5.0
RETRY_STORE_S = 1.0
_log = logging.getLogger(__name__)


@dataclass
class StoreCounts:
    """Counts of telemetry messages stored, of those stored before, and of requests to resend."""

    stored: int = 0
    duplicates: int = 0
    resends: int = 0


class Recorder:
    """Stores the messages of one fleet. ``run`` never returns; ``client`` may be used meanwhile.

    ``identifier`` names the session at the broker, by default after the fleet. The broker queues
    messages for that session while no recorder runs. If a second recorder connects with the same
    identifier, the first one ends with ``TakenOverError``.
    """

    def __init__(
        self, broker: Broker, fleet: str, store: TelemetryStore, identifier: str | None = None
    ) -> None:
        self.client = FleetClient(
            broker, fleet, identifier or f"controller-{fleet}", self._store_batch, SESSION_S
        )
        self.client.on_retired = self._retire
        self.exits = FleetExits()
        self.client.listeners.append(self.exits.see)
        self.counts = StoreCounts()
        self._retiring: set[asyncio.Task[None]] = set()
        self._store = store

    @property
    def state(self) -> FleetState:
        """The state of the fleet as the client knows it."""
        return self.client.state

    async def run(self) -> None:
        """Store messages, request missing ones, until cancelled; raises as ``FleetClient.run``."""
        self.client.clock.at_least(await self._store.newest_s(self.state.fleet))
        for name, desired in (await self._store.desired(self.state.fleet)).items():
            self.state.device(name).desired = desired
        stored = await self._store.sequences(self.state.fleet)
        for (name, epoch), ranges in stored.items():
            self.state.device(name).epochs[epoch] = Sequences(ranges)
        requests = asyncio.create_task(self._request_missing(), name="recorder requests")
        try:
            await self.client.run()
        finally:
            requests.cancel()
            await asyncio.gather(requests, return_exceptions=True)

    async def _store_batch(self, batch: Sequence[Received]) -> None:
        if not batch:
            return
        # Shielded from cancellation: the state includes these messages, so they must be stored.
        appended = await asyncio.shield(self._append(batch))
        self.counts.stored += appended.stored
        self.counts.duplicates += appended.duplicates

    def _retire(self, name: str) -> None:
        async def forget() -> None:
            try:
                await self._store.retire(self.state.fleet, name)
            except StoreError as error:
                _log.warning("%s: is retired, and stays in the store: %s", name, error)

        self.exits.forget(name)
        task = asyncio.create_task(forget(), name=f"retire {name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _append(self, batch: Sequence[Received]) -> Appended:
        """Store ``batch``, retrying while the store is unavailable; the broker queues the rest."""
        while True:
            try:
                return await self._store.append(batch)
            except StoreError as error:
                _log.warning("%s; trying again", error)
                await asyncio.sleep(RETRY_STORE_S)

    async def _request_missing(self) -> None:
        """Once a second, request missing telemetry from a limited number of devices."""
        seen: dict[str, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(MEND_EVERY_S)
            if self.client.complete.is_set():
                self._restore()
            holes = {
                name: hole
                for name, device in self.state.devices.items()
                if device.online and (hole := device.sequences.hole()) is not None
            }
            # A gap must be seen twice, as messages in transit may still fill it.
            lasting = [name for name, hole in holes.items() if seen.get(name, (0,))[0] == hole[0]]
            seen = holes
            asking = [self._request(name, *holes[name]) for name in lasting[:RESENDS_AT_ONCE]]
            with contextlib.suppress(BrokerError):
                await asyncio.gather(*asking)

    def _restore(self) -> None:
        """Publish the stored desired states again that the broker has lost."""
        with contextlib.suppress(BrokerError):
            lost = self.client.restore()
            if lost:
                _log.warning("the broker had lost %d desired states, of %s ...", len(lost), lost[0])

    async def _request(self, name: str, first: int, last: int) -> None:
        """Ask a device to resend numbers ``first`` to ``last``; give up those that it has lost."""
        arguments = {"first": str(first), "last": str(last)}
        self.counts.resends += 1
        result = await self.client.command(name, "resend", arguments, RESEND_WITHIN_S)
        if not result.ok:
            return
        try:
            values = {key: int(result.values.get(key, "0")) for key in ("sent", "last", "oldest")}
        except ValueError:
            self.client.counts.refused["values"] += 1
            _log.warning("refused: %s: the result of resend has a text for a number", name)
            return
        # Numbers below the device's oldest are gone; devices of earlier releases do not report it.
        gone = values["oldest"] - 1 if values["oldest"] else values["last"]
        if gone >= first and (values["oldest"] or not values["sent"]):
            self.state.device(name).sequences.give_up(gone)
            text = "%s: telemetry %d to %d is lost: the device no longer has it"
            _log.warning(text, name, first, min(gone, last))
