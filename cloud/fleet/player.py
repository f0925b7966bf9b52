"""Play a scenario: settings, battery events, outages of the cloud, roll-outs of models."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cloud.fleet.changes import Change, replacing, setting
from cloud.fleet.client import FleetClient
from cloud.fleet.rollout import judge, waves
from cloud.fleet.state import DeviceState
from cloud.telemetry.sums import Sums, add_up
from shared.fleet.messages import Message, Reported, Telemetry, Topic
from shared.fleet.scenario import FleetScenario, Rollout, ScenarioEvent

REPORT_WITHIN_S = 30.0
Say = Callable[[str], None]


class CloudSwitch(Protocol):
    """Something that can stop and start the cloud server."""

    async def stop(self) -> None:
        """Stop the server."""

    async def start(self) -> None:
        """Start the server again."""


class Player:
    """Play ``scenario`` through ``client`` on a clock that runs ``speed`` times as fast."""

    def __init__(
        self,
        client: FleetClient,
        scenario: FleetScenario,
        speed: float,
        cloud: CloudSwitch | None,
        say: Say,
    ) -> None:
        self._client = client
        client.listeners.append(self._see)
        self._scenario = scenario
        self._speed = speed
        self._cloud = cloud
        self._say = say
        self._seen: dict[str, list[Telemetry]] = defaultdict(list)
        self._watching = False
        self.stopped_rollouts = 0

    def _see(self, topic: Topic, message: Message) -> None:
        if self._watching and isinstance(message, Telemetry):
            self._seen[topic.device].append(message)

    @property
    def name(self) -> str:
        """The name of the scenario."""
        return self._scenario.name

    async def play(self) -> None:
        """Play from the first settings to the end of the scenario."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await self.set("all", self._scenario.settings.given())
        for event in sorted(self._scenario.events, key=lambda event: event.at):
            await asyncio.sleep(max(began_s + event.at / self._speed - loop.time(), 0))
            await self._happen(event)
        left_s = began_s + self._scenario.duration / self._speed - loop.time()
        await asyncio.sleep(max(left_s, 0))

    async def _happen(self, event: ScenarioEvent) -> None:
        at = f"{event.at / 3600:.2f} h"
        if event.set is not None:
            self._say(f"{at}: {event.target}: set {event.set.model_dump(exclude_none=True)}")
            await self.set(event.target, event.set.given())
        elif event.battery is not None:
            self._say(f"{at}: {event.target}: battery {event.battery:.0%}")
            await self._set_batteries(event.target, event.battery)
        elif event.cloud is not None and self._cloud is not None:
            self._say(f"{at}: cloud: {event.cloud}")
            await (self._cloud.stop() if event.cloud == "stop" else self._cloud.start())
        elif event.rollout is not None:
            await self.roll_out(event.target, event.rollout)

    async def set(self, target: str, values: Mapping[str, Any]) -> dict[str, Reported | None]:
        """Set for ``target`` and wait for the reports; None for a device without one."""
        return await self._desire(self._client.state.select(target), setting(values))

    async def _desire(
        self, devices: Sequence[DeviceState], change: Change
    ) -> dict[str, Reported | None]:
        """Change devices; wait for those that are connected, with a limit."""
        futures = self._client.desire(devices, change)
        here = [futures[device.name] for device in devices if device.online]
        if here:
            await asyncio.wait(here, timeout=REPORT_WITHIN_S)
        return {name: _report(future) for name, future in futures.items()}

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
        """Give the model to ever more devices; False if it had to be taken back."""
        state = self._client.state
        # By hash: the order of names would fill the first waves with one group.
        names = sorted((d.name for d in state.select(target)), key=hash_name)
        before = {name: state.device(name).desired.settings for name in names}
        changed: list[str] = []
        for number, wave in enumerate(waves(names, rules.waves), 1):
            if not wave:
                continue
            changed += wave
            reports = await self._desire(
                [state.device(name) for name in wave], setting({"model": rules.model})
            )
            refused = sum(bool(one and one.refused) for one in reports.values())
            new, rest = await self._watch(rules, changed, names)
            verdict = judge(rules, new, rest, refused)
            self._say(f"roll-out of {rules.model}, wave {number}, {len(wave)}: {verdict.reason}")
            if verdict.good is not True:
                self.stopped_rollouts += 1
                await asyncio.gather(
                    *(
                        self._desire([state.device(name)], replacing(before[name]))
                        for name in changed
                    )
                )
                self._say(f"roll-out of {rules.model}: stopped, {len(changed)} devices are back")
                return False
        self._say(f"roll-out of {rules.model}: done, {len(changed)} devices")
        return True

    async def _watch(
        self, rules: Rollout, changed: Sequence[str], names: Sequence[str]
    ) -> tuple[Sums, Sums]:
        """Return sums over the devices with the model and without, while they are watched."""
        self._seen.clear()
        self._watching = True
        await asyncio.sleep(rules.watch / self._speed)
        self._watching = False
        with_it = set(changed)
        new = [one for name in changed for one in self._seen[name] if one.model == rules.model]
        rest = [one for name in names if name not in with_it for one in self._seen[name]]
        return add_up(new), add_up(rest)


def _report(future: asyncio.Future[Reported]) -> Reported | None:
    """The report in ``future``; None if there is none (yet)."""
    return None if not future.done() or future.exception() is not None else future.result()


def hash_name(name: str) -> int:
    """Return a key that sorts names in an order unrelated to the alphabet, the same every time."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value
