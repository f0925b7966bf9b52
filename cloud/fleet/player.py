"""Plays a scenario: settings, battery events, the cloud going away, models rolled out."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from cloud.fleet.controller import Controller
from cloud.fleet.rollout import Tally, judge, tally, waves
from cloud.fleet.state import DeviceState
from shared.fleet.messages import Message, Reported, Settings, Telemetry, Topic
from shared.fleet.scenario import Event, Rollout, Scenario

REPORT_WITHIN_S = 30.0
Say = Callable[[str], None]


class CloudSwitch(Protocol):
    """Something that can stop and start the cloud server."""

    async def stop(self) -> None:
        """The server is gone."""

    async def start(self) -> None:
        """The server is there again."""


def merged(old: Settings, change: Settings) -> Settings:
    """``old`` with what ``change`` sets."""
    given = {
        field.name: value
        for field in dataclasses.fields(change)
        if (value := getattr(change, field.name)) is not None
    }
    return dataclasses.replace(old, **given)


class Player:
    """Plays ``scenario`` through ``controller`` on a clock that is ``speed`` times as fast."""

    def __init__(
        self,
        controller: Controller,
        scenario: Scenario,
        speed: float,
        cloud: CloudSwitch | None,
        say: Say,
    ) -> None:
        self._controller = controller
        self._scenario = scenario
        self._speed = speed
        self._cloud = cloud
        self._say = say
        self._seen: dict[str, list[Telemetry]] = defaultdict(list)
        self._watching = False
        self.stopped_rollouts = 0

    def see(self, topic: Topic, message: Message) -> None:
        """Take note of telemetry while a roll-out is being watched."""
        if self._watching and isinstance(message, Telemetry):
            self._seen[topic.device].append(message)

    async def play(self) -> None:
        """From the first settings to the end of the scenario."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await self.set("all", self._scenario.settings.settings())
        for event in sorted(self._scenario.events, key=lambda event: event.at):
            await asyncio.sleep(max(began_s + event.at / self._speed - loop.time(), 0))
            await self._happen(event)
        left_s = began_s + self._scenario.duration / self._speed - loop.time()
        await asyncio.sleep(max(left_s, 0))

    async def _happen(self, event: Event) -> None:
        at = f"{event.at / 3600:.2f} h"
        if event.set is not None:
            self._say(f"{at}: {event.target}: set {event.set.model_dump(exclude_none=True)}")
            await self.set(event.target, event.set.settings())
        elif event.battery is not None:
            self._say(f"{at}: {event.target}: battery {event.battery:.0%}")
            await self._set_batteries(event.target, event.battery)
        elif event.cloud is not None and self._cloud is not None:
            self._say(f"{at}: cloud: {event.cloud}")
            await (self._cloud.stop() if event.cloud == "stop" else self._cloud.start())
        elif event.rollout is not None:
            await self.roll_out(event.target, event.rollout)

    async def set(self, target: str, change: Settings) -> dict[str, Reported | None]:
        """Set for ``target`` and wait for the reports; None for who is silent."""
        devices = self._controller.state.select(target)
        return await self._desire(devices, lambda device: merged(device.desired.settings, change))

    async def _desire(
        self, devices: Sequence[DeviceState], change: Callable[[DeviceState], Settings]
    ) -> dict[str, Reported | None]:
        futures = self._controller.desire(devices, change)
        if futures:
            await asyncio.wait(futures.values(), timeout=REPORT_WITHIN_S)
        return {name: one.result() if one.done() else None for name, one in futures.items()}

    async def _set_batteries(self, target: str, level: float) -> None:
        results = await asyncio.gather(
            *(
                self._controller.command(device.name, "battery", {"level": str(level)})
                for device in self._controller.state.select(target)
            )
        )
        failed = [result for result in results if not result.ok]
        if failed:
            self._say(f"battery: {len(failed)} devices did not: {failed[0].error}")

    async def roll_out(self, target: str, rules: Rollout) -> bool:
        """Give the model to ever more devices; False if it had to be taken back."""
        # Spread over the groups: the names in order would take the first ones only.
        names = sorted((d.name for d in self._controller.state.select(target)), key=hash_name)
        before = {name: self._controller.state.device(name).desired.settings for name in names}
        changed: list[str] = []
        for number, wave in enumerate(waves(names, rules.waves), 1):
            if not wave:
                continue
            changed += wave
            reports = await self._desire(
                [self._controller.state.device(name) for name in wave],
                lambda device: merged(device.desired.settings, Settings(model=rules.model)),
            )
            refused = sum(bool(one and one.refused) for one in reports.values())
            new, rest = await self._watch(rules, changed, names)
            verdict = judge(rules, dataclasses.replace(new, refused=refused), rest)
            self._say(f"roll-out of {rules.model}, wave {number}, {len(wave)}: {verdict.reason}")
            if verdict.good is not True:
                self.stopped_rollouts += 1
                await self._desire(
                    [self._controller.state.device(name) for name in changed],
                    lambda device: before[device.name],
                )
                self._say(f"roll-out of {rules.model}: stopped, {len(changed)} devices are back")
                return False
        self._say(f"roll-out of {rules.model}: done, {len(changed)} devices")
        return True

    async def _watch(
        self, rules: Rollout, changed: Sequence[str], names: Sequence[str]
    ) -> tuple[Tally, Tally]:
        """What the devices with and without the model do while they are watched."""
        self._seen.clear()
        self._watching = True
        await asyncio.sleep(rules.watch / self._speed)
        self._watching = False
        with_it = set(changed)
        new = [one for name in changed for one in self._seen[name] if one.model == rules.model]
        rest = [one for name in names if name not in with_it for one in self._seen[name]]
        return tally(new), tally(rest)


def hash_name(name: str) -> int:
    """An order that has nothing to do with the names, the same every time."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value
