"""The loop that carries out a roll-out: observe, decide, save the decision, give orders."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from cloud.fleet.changes import setting
from cloud.fleet.client import FleetClient
from cloud.fleet.rollout.core import observe, step, stop
from cloud.fleet.rollout.ledger import RolloutLedger
from cloud.fleet.rollout.record import Phase, RolloutRecord
from shared.errors import BrokerError, StoreError

EVERY_S = 0.5
SAY_EVERY_S = 30.0
PAUSE, ABORT = "pause", "abort"
_log = logging.getLogger(__name__)


class RolloutDriver:
    """Carries out ``record`` until it is over or paused; ``say`` receives a line for each change.

    A record is saved before its orders are given, and orders follow from comparing desired states
    with the record. So whichever process dies, the next step continues. ``speed`` shortens the
    pauses between steps, for scenarios on a fast clock.
    """

    def __init__(
        self,
        client: FleetClient,
        ledger: RolloutLedger,
        record: RolloutRecord,
        say: Callable[[str], None],
        speed: float = 1.0,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self.record = record
        self._names = tuple(record.members)
        self._say = say
        self._every_s = EVERY_S / max(speed, 1.0)
        self._said: tuple[object, ...] = ()
        self._said_s = 0.0

    async def run(self) -> RolloutRecord:
        """Repeat steps until the roll-out is over or paused; return its last record."""
        self._announce()
        try:
            while True:
                try:
                    await self._once()
                except StoreError as error:
                    _log.warning("%s; trying again", error)
                except BrokerError as error:
                    _log.warning("%s; the roll-out waits", error)
                self._announce()
                phase = self.record.progress.phase
                if phase is Phase.PAUSED or (phase.over and self._client.settled(self._names)):
                    return self.record
                await asyncio.sleep(self._every_s)
        finally:
            with contextlib.suppress(StoreError):
                self._ledger.release()

    async def _once(self) -> None:
        record = self.record
        evidence = await asyncio.to_thread(self._ledger.evidence, record)
        if not self._client.complete.is_set():
            # Nothing can be decided without the retained states, but the sign of life must
            # continue.
            await asyncio.to_thread(self._ledger.save, record)
            return
        # Earlier orders that a killed broker has lost, or that never reached it.
        self._client.restore(self._names)
        devices = self._client.state.devices
        seen = {name: observe(devices[name]) for name in record.members if name in devices}
        found = step(record, seen, evidence, time.time())
        wish = await asyncio.to_thread(self._ledger.save, found.record)
        self.record = found.record
        if wish:
            await self._apply_wish(wish)
            return
        for name, model in found.orders.items():
            device = self._client.state.device(name)
            self._client.desire([device], setting({"model": model}))

    async def _apply_wish(self, wish: str) -> None:
        phase = self.record.progress.phase
        if wish == ABORT and not phase.over and phase is not Phase.GOING_BACK:
            self.record = stop(self.record, "aborted")
        elif wish == PAUSE and phase is Phase.RUNNING:
            self.record = self.record.moved(phase=Phase.PAUSED, reason="paused")
        await asyncio.to_thread(self._ledger.set_wish, "")
        await asyncio.to_thread(self._ledger.save, self.record)

    def _announce(self) -> None:
        """Report the progress: at every change of phase, wave or mark, and every half minute."""
        progress, now_s = self.record.progress, time.monotonic()
        turn = (progress.phase, progress.wave, progress.mark_s)
        if not progress.reason or (turn == self._said and now_s < self._said_s + SAY_EVERY_S):
            return
        self._said, self._said_s = turn, now_s
        name = f"roll-out {self.record.number} of {self.record.rules.model}"
        self._say(f"{name}: {progress.phase.value}: {progress.reason}")


def outcome(record: RolloutRecord) -> str:
    """Describe in a line how a roll-out ended."""
    counts = record.counts()
    name = f"roll-out of {record.rules.model}"
    match record.progress.phase:
        case Phase.DONE:
            return f"{name}: done, {record.progress.reason}"
        case Phase.STOPPED:
            text = f"{name}: stopped, {counts['back']} devices are back"
            away = counts["returning"]
            return text + f", {away} are away and go back when they return" * bool(away)
    return f"{name}: {record.progress.phase.value}, {record.progress.reason}"
