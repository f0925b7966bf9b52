"""Find the current problems of a device from its messages. Pure."""

from __future__ import annotations

from enum import Enum

from cloud.fleet.state import DeviceState

SILENT_PERIODS, SILENT_S = 3, 10.0  # missed telemetry periods, plus the delay of a busy broker
EMPTY_BELOW = 0.1
FAILING_ABOVE = 0.1
CLOCK_OFF_S = 3600.0


class Problem(str, Enum):
    """Kinds of problems; the values are labels of metrics and texts of the dashboard."""

    AWAY = "away"
    SILENT = "silent"
    BATTERY = "battery"
    FAILING = "failing"
    REFUSED = "refused"
    BEHIND = "behind"
    CLOCK = "clock"


MEANINGS = {
    Problem.AWAY: "is not connected",
    Problem.SILENT: f"is connected, without telemetry for {SILENT_PERIODS} periods",
    Problem.BATTERY: f"battery below {EMPTY_BELOW:.0%}, not charging",
    Problem.FAILING: f"more than {FAILING_ABOVE:.0%} of the last samples failed",
    Problem.REFUSED: "refuses a setting",
    Problem.BEHIND: "has not reported its desired state",
    Problem.CLOCK: f"clock is more than {CLOCK_OFF_S / 3600:g} h off",
}


def silent_after_s(device: DeviceState) -> float:
    """Return the monotonic time from which a connected device counts as silent."""
    reported = device.reported
    period_s = (reported.settings.telemetry_s if reported else None) or SILENT_S
    return device.seen_s + SILENT_PERIODS * period_s + SILENT_S


def problems(device: DeviceState, now_s: float) -> list[Problem]:
    """Return the problems of ``device``; ``now_s`` is monotonic like ``DeviceState.seen_s``."""
    if device.birth is None:
        return []
    if not device.online:
        return [Problem.AWAY]
    found = []
    reported, telemetry = device.reported, device.telemetry
    if now_s > silent_after_s(device):
        found.append(Problem.SILENT)
    if reported is not None and reported.refused:
        found.append(Problem.REFUSED)
    if device.desired.version > (reported.version if reported else 0):
        found.append(Problem.BEHIND)
    if telemetry is None:
        return found
    if telemetry.battery < EMPTY_BELOW and not telemetry.plugged:
        found.append(Problem.BATTERY)
    samples = telemetry.answered + telemetry.failed
    if telemetry.failed > FAILING_ABOVE * samples:
        found.append(Problem.FAILING)
    if not device.birth.simulated and abs(device.clock_off_s) > CLOCK_OFF_S:
        found.append(Problem.CLOCK)
    return found
