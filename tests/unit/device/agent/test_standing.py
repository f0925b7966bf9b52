"""What a device says about its connection, and how it learns of another with its name."""

from __future__ import annotations

import logging

import pytest

from device.agent.standing import STEADY_S, Standing
from shared.errors import BrokerError, TakenOverError
from shared.fleet.messages import PROTOCOL, Birth

LOST = BrokerError("--broker: host:1883: closed the connection")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def birth(epoch: str, session: int, hardware: str = "pi-wifi") -> Birth:
    """The birth of a device in its ``session``."""
    return Birth("twin", session, 1, 0.0, PROTOCOL, epoch=epoch, hardware=hardware)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def standing(clock: Clock) -> Standing:
    """Of a device that has seen its own birth, of epoch a and session 5."""
    made = Standing("twin", clock)
    made.announce(birth("a", 5))
    made.examine(birth("a", 5))
    made.record_connected()
    return made


@pytest.mark.parametrize("other", [birth("b", 1), birth("a", 5, "mcu-wifi"), birth("a", 6)])
def test_a_birth_that_the_device_did_not_write_is_another_ones(
    standing: Standing, other: Birth, caplog: pytest.LogCaptureFixture
) -> None:
    standing.examine(other)
    assert f"another device has this name ({other.hardware}" in standing.namesake
    assert caplog.text.count("another device has this name") == 1
    standing.examine(other)
    assert caplog.text.count("another device has this name") == 1


def test_own_births_of_this_and_earlier_runs_are_no_other_ones(standing: Standing) -> None:
    standing.announce(birth("a", 6))
    for own in (birth("a", 5), birth("a", 4), birth("a", 6)):  # also from a broker's backup
        standing.examine(own)
    assert standing.namesake == ""


def test_what_was_there_before_the_first_own_birth_is_of_an_earlier_run() -> None:
    standing = Standing("twin", Clock())
    standing.examine(birth("z", 70))  # queued by the broker
    standing.announce(birth("a", 1))
    standing.examine(birth("z", 71))
    assert standing.namesake == ""


def test_another_device_is_forgotten_when_it_has_not_been_seen_for_long(
    standing: Standing, clock: Clock
) -> None:
    standing.examine(birth("b", 1))
    clock.now_s += STEADY_S + 1
    assert standing.namesake == ""


def test_a_device_that_is_pushed_out_waits_longer_each_time(
    standing: Standing, clock: Clock
) -> None:
    def longest_s(error: BrokerError) -> float:
        """The longest of many waits, as each is drawn by chance."""
        waits = []
        for _ in range(40):
            standing.announce(birth("a", 6))
            standing.lose(error)
            waits.append(standing.wait_s())
            standing.record_connected()
        return max(waits)

    assert longest_s(LOST) <= 0.5
    assert longest_s(TakenOverError("another client has connected")) > 10
    clock.now_s += STEADY_S + 1  # it was left alone meanwhile
    standing.wait_s()
    standing.announce(birth("a", 7))
    standing.lose(TakenOverError("another client has connected"))
    assert standing.wait_s() <= 4


def test_a_reason_is_said_once_until_there_was_a_connection(
    standing: Standing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    standing.lose(LOST)
    standing.lose(LOST)
    assert caplog.text.count("not connected") == 1
    standing.record_connected()
    standing.lose(LOST)
    assert caplog.text.count("closed the connection; is there another device") == 1
