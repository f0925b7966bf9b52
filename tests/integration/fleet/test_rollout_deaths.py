"""Roll-outs whose driver, broker, or both die at each step of the state machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cloud.fleet.changes import Change, setting
from cloud.fleet.client import FleetClient
from cloud.fleet.rollout.core import Evidence, resumed, stop
from cloud.fleet.rollout.driver import RolloutDriver
from cloud.fleet.rollout.ledger import RolloutLedger
from cloud.fleet.rollout.record import Phase, RolloutRecord
from cloud.fleet.running import running
from cloud.fleet.state import DeviceState
from cloud.telemetry.store import Store
from cloud.telemetry.sums import Sums
from shared.fleet.broker import parse_broker
from shared.fleet.messages import Reported
from shared.fleet.scenario import Rollout
from tests.support.fleet_in_memory import MemoryFleet, MemoryNetwork

DEVICES = 4
QUICK = 1000.0  # times as fast as a driver looks for people
ENDS_WITHIN_S = 60.0
RULES = Rollout.model_validate(
    {"model": "new", "waves": [0.5, 1.0], "watch": "10s", "control": 0.2}
)
GOOD = Sums(answered_cloud=2000, labelled=2000, right=1960, waited_ms=2000.0, energy_j=2.0)
BAD = Sums(answered_cloud=2000, labelled=2000, right=1800, waited_ms=2000.0, energy_j=2.0)


class KilledError(BaseException):
    """The driver's process has ended; nothing in it may clean up after that."""


@dataclass
class Fate:
    """Who dies when the roll-out first comes to the step ``at``; all steps that it came to."""

    store: Path
    fleet: MemoryFleet
    at: str = ""
    who: str = ""
    steps: list[str] = field(default_factory=list)
    dead: bool = False

    def step(self, name: str) -> None:
        first = name not in self.steps
        self.steps.append(name)
        if not first or name != self.at:
            return
        if self.who in ("broker", "both"):
            self.fleet.broker.kill()
        if self.who in ("driver", "both"):
            self.dead = True
            raise KilledError(name)


class MortalLedger(RolloutLedger):
    """Its driver may die before and after each thing that it keeps; evidence is made up."""

    def __init__(self, fate: Fate, quality: Sums) -> None:
        super().__init__(str(fate.store), fate.fleet.fleet)
        self._fate = fate
        self._quality = quality
        self._loop = asyncio.get_running_loop()
        self._newest_s = 1.0

    def _step(self, name: str) -> None:
        async def take() -> None:
            try:
                self._fate.step(name)
            except KilledError as error:
                found.append(error)

        found: list[KilledError] = []
        asyncio.run_coroutine_threadsafe(take(), self._loop).result()
        if found:
            raise found[0]

    def save(self, record: RolloutRecord) -> str:
        where = f"{record.progress.phase.value} {record.progress.wave}"
        self._step(f"{where}: before it is kept")
        wish = super().save(record)
        self._step(f"{where}: after it is kept")
        return wish

    def release(self) -> None:
        if not self._fate.dead:
            super().release()

    def evidence(self, record: RolloutRecord) -> Evidence:
        self._newest_s += 2 * record.rules.watch
        devices = self._fate.fleet.broker.devices
        new = {one.name: self._quality for one in devices if one.model == record.rules.model}
        old = {one.name: GOOD for one in devices if one.name not in new}
        return Evidence(self._newest_s, new, old)


class MortalClient(FleetClient):
    """Its process may die before each order."""

    def __init__(self, fate: Fate) -> None:
        super().__init__(parse_broker(f"mqtt://{fate.fleet.fleet}"), fate.fleet.fleet)
        self._fate = fate

    def desire(
        self, devices: Iterable[DeviceState], change: Change
    ) -> dict[str, asyncio.Future[Reported]]:
        told = list(devices)
        self._fate.step(f"before the order to {', '.join(one.name for one in told)}")
        return super().desire(told, change)


Begin = Callable[[RolloutLedger, FleetClient], RolloutRecord]


async def drive(fate: Fate, quality: Sums, begin: Begin) -> RolloutRecord:
    """Be the process of ``rollout start`` or ``resume``."""
    fate.step("before it connects")
    ledger = MortalLedger(fate, quality)
    try:
        async with running(MortalClient(fate)) as client:
            ledger.remember(client.state)
            fate.step("before its record")
            record = begin(ledger, client)
            return await RolloutDriver(client, ledger, record, lambda _: None, QUICK).run()
    finally:
        ledger.close()


def start(ledger: RolloutLedger, client: FleetClient) -> RolloutRecord:
    return ledger.start(RULES, client.state.select("all"), "operator")


def resume(ledger: RolloutLedger, client: FleetClient) -> RolloutRecord:
    return resumed(ledger.take(), time.time())


def abort(ledger: RolloutLedger, client: FleetClient) -> RolloutRecord:
    return stop(resume(ledger, client), "aborted")


async def roll_out(fate: Fate, quality: Sums, then: Begin = resume) -> RolloutRecord:
    """Carry a roll-out out; if its process dies, an operator begins another one by ``then``."""
    async with asyncio.timeout(ENDS_WITHIN_S):
        try:
            return await drive(fate, quality, start)
        except KilledError:
            fate.dead = False
            begun = fate.steps[-1] not in ("before it connects", "before its record")
            return await drive(fate, quality, then if begun else start)


@dataclass
class Site:
    """One store and network for the fleets of all deaths."""

    path: Path
    store: Store
    network: MemoryNetwork = field(default_factory=MemoryNetwork)

    @asynccontextmanager
    async def fleet(self, name: str, forgets: bool) -> AsyncIterator[MemoryFleet]:
        """A fleet that was set since its broker wrote anything down; or it never has."""
        async with MemoryFleet(self.network, self.store, name, DEVICES, "own") as fleet:
            if not forgets:
                fleet.broker.write()
            async with running(fleet.client()) as client:
                futures = client.desire(client.state.select("all"), setting({"model": "old"}))
                await asyncio.gather(*futures.values())
            await until_kept(self.store, name)
            yield fleet


async def until_kept(store: Store, fleet: str) -> None:
    """Wait until the recorder has stored what is desired of all devices, and their answers."""
    while True:
        desired = await store.desired(fleet)
        if [one.settings.model for one in desired.values()] == ["old"] * DEVICES:
            return
        await asyncio.sleep(0.001)


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr("cloud.fleet.client.RECONNECT_S", 0.001)
    monkeypatch.setattr("cloud.fleet.recorder.MEND_EVERY_S", 0.005)
    monkeypatch.setattr("cloud.telemetry.rollouts.ALIVE_S", -1.0)  # the driver that died is ours
    path = tmp_path / "store"
    async with Store(str(path)) as kept:
        site = Site(path, kept)
        monkeypatch.setattr("cloud.fleet.client.BrokerClient", site.network.connect)
        yield site


@pytest.mark.parametrize(
    ("who", "forgets"), [("driver", False), ("broker", False), ("broker", True), ("both", True)]
)
@pytest.mark.parametrize(("quality", "model"), [(GOOD, "new"), (BAD, "old")])
async def test_every_device_has_the_right_model_whoever_dies_at_whatever_step(
    site: Site, who: str, forgets: bool, quality: Sums, model: str
) -> None:
    async with site.fleet("whole", forgets) as fleet:
        whole = Fate(site.path, fleet)
        await roll_out(whole, quality)
        assert fleet.models() == [model] * DEVICES
    for number, at in enumerate(dict.fromkeys(whole.steps)):
        async with site.fleet(f"fleet-{number}", forgets) as fleet:
            fate = Fate(site.path, fleet, at, who)
            record = await roll_out(fate, quality)
            assert at in fate.steps
            assert record.progress.phase is (Phase.DONE if model == "new" else Phase.STOPPED)
            assert fleet.models() == [model] * DEVICES, f"{who} died at {at}"


@pytest.mark.parametrize("who", ["driver", "both"])
async def test_an_abort_after_a_death_at_whatever_step_takes_every_device_back(
    site: Site, who: str
) -> None:
    async with site.fleet("whole", False) as fleet:
        whole = Fate(site.path, fleet)
        await roll_out(whole, GOOD)
    for number, at in enumerate(dict.fromkeys(whole.steps)):
        if at.startswith(("done", "before it")):
            continue  # there is nothing to abort
        async with site.fleet(f"fleet-{number}", False) as fleet:
            record = await roll_out(Fate(site.path, fleet, at, who), GOOD, abort)
            assert record.progress.phase is Phase.STOPPED
            assert fleet.models() == ["old"] * DEVICES, f"{who} died at {at}"
