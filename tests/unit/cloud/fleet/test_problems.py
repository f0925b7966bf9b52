"""Problems of devices, and the metrics that count them."""

from __future__ import annotations

import pytest

from cloud.fleet.problems import MEANINGS, Problem, problems
from cloud.fleet.state import DeviceState
from shared.fleet.messages import (
    PROTOCOL,
    Birth,
    Death,
    Desired,
    DeviceSettings,
    RefusedSetting,
    Reported,
    Telemetry,
)

NOW_S = 1000.0


def device(*messages: Birth | Death | Desired | Reported | Telemetry) -> DeviceState:
    """A device that was seen just now and has sent these messages."""
    made = DeviceState("cam", seen_s=NOW_S)
    made.learn(Birth("cam", 1, 1, 0.0, PROTOCOL))
    for message in messages:
        made.learn(message)
    return made


WELL = Telemetry("cam", 1, 1, 0.0, battery=0.5, answered_cloud=10)
CASES = {
    Problem.AWAY: device(WELL, Death("cam", 1)),
    Problem.BATTERY: device(Telemetry("cam", 1, 1, 0.0, battery=0.05)),
    Problem.FAILING: device(Telemetry("cam", 1, 1, 0.0, battery=1, answered_cloud=8, failed=2)),
    Problem.REFUSED: device(
        WELL, Reported("cam", 1, refused=(RefusedSetting("model", "none such"),))
    ),
    Problem.BEHIND: device(WELL, Desired(2), Reported("cam", 1, 1)),
}


@pytest.mark.parametrize("problem", CASES)
def test_each_problem_is_found_and_no_other(problem: Problem) -> None:
    assert problems(CASES[problem], NOW_S) == [problem]
    assert MEANINGS[problem]


def test_a_device_that_works_has_no_problem() -> None:
    assert problems(device(WELL, Desired(2), Reported("cam", 1, 2)), NOW_S) == []
    charging = Telemetry("cam", 1, 1, 0.0, battery=0.05, plugged=True)
    assert problems(device(charging), NOW_S) == []


def test_silence_is_measured_in_periods_of_telemetry() -> None:
    slow = device(WELL, Reported("cam", 1, settings=DeviceSettings(telemetry_s=600.0)))
    assert problems(slow, NOW_S + 1700) == []
    assert problems(slow, NOW_S + 1900) == [Problem.SILENT]


def test_a_clock_counts_only_where_it_is_real() -> None:
    wrong = device(WELL)
    wrong.clock_off_s = -1e9
    assert problems(wrong, NOW_S) == [Problem.CLOCK]
    wrong.birth = Birth("cam", 1, 1, 0.0, PROTOCOL, simulated=True)
    assert problems(wrong, NOW_S) == []
