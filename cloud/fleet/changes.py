"""Changes of desired state, tracked until the devices have reported them.

A desired state message holds all settings, so a writer merges its change into the last state that
it knows. If two writers do so at the same time, the later message lacks the earlier change. Each
writer therefore watches for the other's message, merges its change again and publishes the next
version, at most ``ATTEMPTS`` times.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cloud.fleet.state import DeviceState
from shared.errors import BrokerError
from shared.fleet.messages import Desired, DeviceSettings, Reported

ATTEMPTS = 5
AGAIN_S = (0.02, 0.3)  # range of a random delay, so that two writers do not collide again
Change = Callable[[DeviceSettings], DeviceSettings]
Publish = Callable[[str, Desired], asyncio.Future[None]]


def setting(values: Mapping[str, Any]) -> Change:
    """Return the change that sets ``values``; None leaves a setting to the device again."""
    return lambda old: msgspec.structs.replace(old, **values)


def replacing(settings: DeviceSettings) -> Change:
    """Return the change that replaces all settings by ``settings``."""
    return lambda _: settings


@dataclass
class _Pending:
    device: DeviceState
    change: Change
    desired: Desired
    fields: frozenset[str]  # the settings that it changes
    future: asyncio.Future[Reported]
    attempts: int = 1


class Changes:
    """The changes made by one client that devices have not reported yet."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._pending: dict[str, list[_Pending]] = {}

    def start(self, device: DeviceState, change: Change) -> asyncio.Future[Reported]:
        """Publish the next desired state of ``device``; the future resolves to the device's report.

        It fails with ``BrokerError`` if the broker refuses the message or the connection is lost
        before the broker has confirmed it, or if another client keeps changing the same setting.
        """
        before = device.desired.settings
        desired = device.change(change(before))
        names = DeviceSettings.__struct_fields__
        changed = frozenset(n for n in names if getattr(before, n) != getattr(desired.settings, n))
        future: asyncio.Future[Reported] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        pending = _Pending(device, change, desired, changed, future)
        waiting = [one for one in self._pending.get(device.name, ()) if not one.future.done()]
        self._pending[device.name] = [*waiting, pending]
        self._send(pending)
        return future

    def reported(self, name: str, message: Reported) -> None:
        """Resolve the futures of the changes that ``message`` of the device ``name`` answers.

        If the device refuses a setting, that answers the change of this setting whatever version
        the message has: a device that refuses a desired state may keep its old version.
        """
        refused = {one.field for one in message.refused}
        waiting = []
        for one in self._pending.pop(name, ()):
            if one.future.done():
                continue
            if message.version >= one.desired.version or refused & one.fields:
                one.future.set_result(message)
            else:
                waiting.append(one)
        if waiting:
            self._pending[name] = waiting

    def desired_by_another(self, device: DeviceState, message: Desired) -> None:
        """Merge and publish a pending change again if another client's ``message`` lacks it."""
        waiting = [one for one in self._pending.get(device.name, ()) if not one.future.done()]
        if not waiting:
            return
        last = waiting[-1]
        lacks_it = last.change(message.settings) != message.settings
        if not lacks_it and message.version >= last.desired.version:
            return
        if last.attempts >= ATTEMPTS:
            text = f"{device.name}: another client keeps changing {', '.join(sorted(last.fields))}"
            last.future.set_exception(BrokerError(text))
            return
        last.attempts += 1
        delay_s = random.uniform(*AGAIN_S)  # noqa: S311 - not for security
        asyncio.get_running_loop().call_later(delay_s, self._merge_again, last)

    def _merge_again(self, pending: _Pending) -> None:
        if pending.future.done():
            return
        pending.desired = pending.device.change(pending.change(pending.device.desired.settings))
        self._send(pending)

    def _send(self, pending: _Pending) -> None:
        def failed(sent: asyncio.Future[None]) -> None:
            error = None if sent.cancelled() else sent.exception()
            if error is not None and not pending.future.done():
                pending.future.set_exception(error)

        try:
            self._publish(pending.device.name, pending.desired).add_done_callback(failed)
        except BrokerError as error:
            pending.future.set_exception(error)


def result_of(futures: Mapping[str, asyncio.Future[Reported]]) -> str:
    """Summarise in one line how many devices reported a change, refused it or failed."""
    done = {name: one for name, one in futures.items() if one.done() and not one.cancelled()}
    failed = [f"{name}: {error}" for name, one in done.items() if (error := one.exception())]
    refused = [
        f"{name} refuses {reported.refused[0].field}: {reported.refused[0].reason}"
        for name, one in done.items()
        if not one.exception() and (reported := one.result()).refused
    ]
    good = len(done) - len(failed) - len(refused)
    texts = [f"{good} of {len(futures)} reported"]
    if len(futures) > len(done):
        texts.append(f"{len(futures) - len(done)} open")
    for kind, lines in (("failed", failed), ("refused", refused)):
        if lines:
            texts.append(f"{len(lines)} {kind} ({lines[0]})")
    return "; ".join(texts)[:500]


def _retrieve(future: asyncio.Future[Reported]) -> None:
    """Mark an exception as retrieved, since not every caller awaits every future."""
    if not future.cancelled():
        future.exception()
