"""Changes of desired state by several writers, and the reports that answer them."""

from __future__ import annotations

import asyncio

import pytest

from cloud.fleet.changes import ATTEMPTS, Changes, setting
from cloud.fleet.state import DeviceState
from shared.errors import BrokerError
from shared.fleet.messages import Desired, DeviceSettings, RefusedSetting, Reported
from tests.support.clouds import until


class Retained:
    """The desired state of one device at a broker, and the writers that follow it."""

    def __init__(self) -> None:
        self.desired = Desired(1, DeviceSettings(exit_threshold=0.5))
        self.writers: list[Writer] = []

    def publish(self, writer: Writer, desired: Desired) -> None:
        self.desired = desired
        for other in self.writers:
            if other is not writer:
                asyncio.get_running_loop().call_soon(other.see, desired)


class Writer:
    """One client's view of the device, and its changes."""

    def __init__(self, broker: Retained) -> None:
        self.device = DeviceState("cam")
        self.device.learn(broker.desired)
        self.changes = Changes(self._publish)
        self._broker = broker
        broker.writers.append(self)

    def _publish(self, name: str, desired: Desired) -> asyncio.Future[None]:
        self._broker.publish(self, desired)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def see(self, desired: Desired) -> None:
        self.device.learn(desired)
        self.changes.desired_by_another(self.device, desired)


async def test_a_change_is_merged_into_what_is_desired_and_can_unset() -> None:
    broker = Retained()
    writer = Writer(broker)
    writer.changes.start(writer.device, setting({"fraction": "0.5"}))
    assert broker.desired == Desired(2, DeviceSettings("0.5", 0.5))
    writer.changes.start(writer.device, setting({"exit_threshold": None}))
    assert broker.desired == Desired(3, DeviceSettings("0.5"))


async def test_of_two_writers_at_the_same_time_both_changes_stay() -> None:
    broker = Retained()
    one, other = Writer(broker), Writer(broker)
    one.changes.start(one.device, setting({"fraction": "0.5"}))
    other.changes.start(other.device, setting({"rate_per_s": 3.0}))
    both = DeviceSettings("0.5", 0.5, 3.0)
    await until(lambda: broker.desired.settings == both, 10)
    await asyncio.sleep(0.5)
    assert broker.desired.settings == both
    assert one.device.desired == other.device.desired


async def test_a_writer_that_is_overruled_again_and_again_says_so() -> None:
    broker = Retained()
    writer = Writer(broker)
    future = writer.changes.start(writer.device, setting({"fraction": "0.5"}))
    for _ in range(ATTEMPTS):
        version = broker.desired.version
        broker.publish(None, Desired(version, DeviceSettings("0.1")))  # type: ignore[arg-type]
        await until(lambda: future.done() or broker.desired.version > version, 10)  # noqa: B023
    with pytest.raises(BrokerError, match="cam: another client keeps changing fraction"):
        await future


async def test_a_refusal_answers_whatever_version_it_has() -> None:
    broker = Retained()
    writer = Writer(broker)
    future = writer.changes.start(writer.device, setting({"model": "nosuch"}))
    writer.changes.reported("cam", Reported("cam", 1, 1))
    assert not future.done()
    refusal = Reported("cam", 1, 1, refused=(RefusedSetting("model", "none such"),))
    writer.changes.reported("cam", refusal)
    assert await future == refusal


async def test_a_report_answers_all_changes_up_to_its_version() -> None:
    broker = Retained()
    writer = Writer(broker)
    futures = [
        writer.changes.start(writer.device, setting({"fraction": text})) for text in ("0.1", "0.2")
    ]
    writer.changes.reported("cam", Reported("cam", 1, 3))
    assert all(future.done() for future in futures)


async def test_a_message_that_the_broker_refuses_fails_the_change() -> None:
    def refuse(name: str, desired: Desired) -> asyncio.Future[None]:
        raise BrokerError("--broker: not authorized")

    device = DeviceState("cam")
    future = Changes(refuse).start(device, setting({"fraction": "0.5"}))
    with pytest.raises(BrokerError, match="not authorized"):
        await future
