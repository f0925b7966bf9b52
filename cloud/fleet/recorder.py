"""The recorder: a fleet client that stores what devices send and asks for what is missing.

A message is acknowledged to the broker only after the store has committed it, and the session
outlives the connection: a recorder that is killed receives again what it had not stored. Messages
that a killed broker lost show as missing sequence numbers and are requested from the device.
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
    """Telemetry messages that were stored and that were there already, and resends asked for."""

    stored: int = 0
    duplicates: int = 0
    resends: int = 0


class Recorder:
    """Stores one fleet. ``run`` never returns; ``client`` may be used beside it.

    ``identifier`` names the broker's session, by default after the fleet: the broker queues
    messages for that name while no recorder runs. Of two recorders with one name the earlier ends
    with ``TakenOverError``.
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
        """The state of the fleet."""
        return self.client.state

    async def run(self) -> None:
        """Follow, store and mend until cancelled; raises what ``FleetClient.run`` raises."""
        self.client.clock.at_least(await self._store.newest_s(self.state.fleet))
        for name, desired in (await self._store.desired(self.state.fleet)).items():
            self.state.device(name).desired = desired
        stored = await self._store.sequences(self.state.fleet)
        for (name, epoch), ranges in stored.items():
            self.state.device(name).epochs[epoch] = Sequences(ranges)
        mending = asyncio.create_task(self._mend(), name="recorder mender")
        try:
            await self.client.run()
        finally:
            mending.cancel()
            await asyncio.gather(mending, return_exceptions=True)

    async def _store_batch(self, batch: Sequence[Received]) -> None:
        if not batch:
            return
        # Shielded: the state has learnt these messages, so they must reach the store.
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
        """Store ``batch``, however long the store is away: the broker holds back the rest."""
        while True:
            try:
                return await self._store.append(batch)
            except StoreError as error:
                _log.warning("%s; trying again", error)
                await asyncio.sleep(RETRY_STORE_S)

    async def _mend(self) -> None:
        """Request missing telemetry, once a second, from a limited number of devices."""
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
            # Messages that are on their way fill a hole: it must be seen twice.
            lasting = [name for name, hole in holes.items() if seen.get(name, (0,))[0] == hole[0]]
            seen = holes
            asking = [self._request(name, *holes[name]) for name in lasting[:RESENDS_AT_ONCE]]
            with contextlib.suppress(BrokerError):
                await asyncio.gather(*asking)

    def _restore(self) -> None:
        """Give the broker the desired states back that it lost since they were stored."""
        with contextlib.suppress(BrokerError):
            lost = self.client.restore()
            if lost:
                _log.warning("the broker had lost %d desired states, of %s ...", len(lost), lost[0])

    async def _request(self, name: str, first: int, last: int) -> None:
        """Have a device send numbers again; give up those that it no longer has."""
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
        # Numbers below the oldest stored one are gone. Devices of earlier releases do not name it.
        gone = values["oldest"] - 1 if values["oldest"] else values["last"]
        if gone >= first and (values["oldest"] or not values["sent"]):
            self.state.device(name).sequences.give_up(gone)
            text = "%s: telemetry %d to %d is lost: the device no longer has it"
            _log.warning(text, name, first, min(gone, last))
