"""Play a scenario: changes of settings and batteries, outages of the cloud, roll-outs."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cloud.fleet.changes import setting
from cloud.fleet.client import FleetClient
from cloud.fleet.rollout.record import Phase
from shared.errors import UsageError
from shared.fleet.messages import Reported
from shared.fleet.scenario import FleetScenario, Rollout, ScenarioEvent

REPORT_WITHIN_S = 30.0
Say = Callable[[str], None]


class CloudSwitch(Protocol):
    """Stops and starts the cloud server."""

    async def stop(self) -> None:
        """Stop the server."""

    async def start(self) -> None:
        """Start the server again."""


class Player:
    """Plays ``scenario`` through ``client`` on a clock that runs ``speed`` times as fast.

    ``cloud`` is needed for outages only, ``store`` (the URL of the recorder's) for roll-outs only.
    ``say`` receives a line for each event.
    """

    def __init__(
        self,
        client: FleetClient,
        scenario: FleetScenario,
        speed: float,
        cloud: CloudSwitch | None,
        say: Say,
        store: str | None = None,
    ) -> None:
        self._client = client
        self._scenario = scenario
        self._speed = speed
        self._cloud = cloud
        self._say = say
        self._store = store
        self.stopped_rollouts = 0
        self._waiting: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The name of the scenario."""
        return self._scenario.name

    async def play(self) -> None:
        """Play from the first settings to the end of the scenario."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            self.set("all", self._scenario.settings.given())
            for event in sorted(self._scenario.events, key=lambda event: event.at):
                await asyncio.sleep(max(began_s + event.at / self._speed - loop.time(), 0))
                await self._execute(event)
            left_s = began_s + self._scenario.duration / self._speed - loop.time()
            await asyncio.sleep(max(left_s, 0))
        finally:
            for task in self._waiting:
                task.cancel()
            await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _execute(self, event: ScenarioEvent) -> None:
        at = f"{event.at / 3600:.2f} h"
        await self._note(event)
        if event.set is not None:
            self._say(f"{at}: {event.target}: set {event.set.model_dump(exclude_none=True)}")
            self.set(event.target, event.set.given())
        elif event.battery is not None:
            self._say(f"{at}: {event.target}: battery {event.battery:.0%}")
            await self._set_batteries(event.target, event.battery)
        elif event.cloud is not None and self._cloud is not None:
            self._say(f"{at}: cloud: {event.cloud}")
            await (self._cloud.stop() if event.cloud == "stop" else self._cloud.start())
        elif event.rollout is not None:
            await self.roll_out(event.target, event.rollout)

    async def _note(self, event: ScenarioEvent) -> None:
        """Record an event that leaves no trace in desired states in the store, for reports."""
        what = f"cloud {event.cloud}" if event.cloud else ""
        if event.battery is not None:
            what = f"battery {event.battery:.0%}"
        if self._store is None or not what:
            return
        from cloud.telemetry.trail import ChangeRecord, write_change  # of the extra "fleet"

        fleet, who = self._client.state.fleet, f"scenario {self.name}"
        change = ChangeRecord(fleet, time.time(), secrets.token_hex(8), who, event.target, what, "")
        await asyncio.to_thread(write_change, self._store, change)

    def set(self, target: str, values: Mapping[str, Any]) -> None:
        """Change settings of ``target`` without waiting for the devices' reports.

        Waiting would let a dead device that still counts as connected delay the scenario. Devices
        that have not reported after a while are listed.
        """
        futures = self._client.desire(self._client.state.select(target), setting(values))
        task = asyncio.create_task(self._await_reports(target, futures), name="reports of a set")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _await_reports(
        self, target: str, futures: Mapping[str, asyncio.Future[Reported]]
    ) -> None:
        devices = self._client.state.devices
        here = [one for name, one in futures.items() if name in devices and devices[name].online]
        if not here:
            return
        await asyncio.wait(here, timeout=REPORT_WITHIN_S)
        silent = sum(not one.done() for one in here)
        if silent:
            self._say(f"{target}: {silent} of {len(here)} connected devices have not reported")

    async def _set_batteries(self, target: str, level: float) -> None:
        results = await asyncio.gather(
            *(
                self._client.command(device.name, "battery", {"level": str(level)})
                for device in self._client.state.select(target)
            )
        )
        failed = [result for result in results if not result.ok]
        if failed:
            self._say(f"battery: {len(failed)} devices failed: {failed[0].error}")

    async def roll_out(self, target: str, rules: Rollout) -> bool:
        """Roll a model out in waves; return False if it had to be taken back.

        The roll-out is kept in the store and judged by the telemetry that is recorded there.
        """
        if self._store is None:
            raise UsageError("--store: a roll-out needs the store of the recorder")
        from cloud.fleet.rollout.driver import RolloutDriver, outcome  # of the extra "fleet"
        from cloud.fleet.rollout.ledger import RolloutLedger

        ledger = await asyncio.to_thread(RolloutLedger, self._store, self._client.state.fleet)
        try:
            ledger.remember(self._client.state)
            watch_s = rules.watch / self._speed
            devices = self._client.state.select(target)
            record = await asyncio.to_thread(
                ledger.start, rules.model_copy(update={"watch": watch_s}), devices, self.name
            )
            driver = RolloutDriver(self._client, ledger, record, lambda _: None, self._speed)
            record = await driver.run()
        finally:
            ledger.close()
        self._say(f"roll-out of {rules.model}: {record.progress.reason}")
        self._say(outcome(record))
        if record.progress.phase is Phase.DONE:
            return True
        self.stopped_rollouts += 1
        return False
