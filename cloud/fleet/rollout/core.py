"""The decisions of a roll-out, as a pure function of its record and the state of the devices.

``step`` returns the next record and orders: desired models to publish. It derives the orders by
comparing what each device should have with what it has. A step may therefore be repeated, and the
next step also repairs what was left by a driver that died or a broker that lost messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud.fleet.rollout.record import CONTROL, TOUCHED, Member, MemberState, Phase, RolloutRecord
from cloud.fleet.rollout.sequential import Outcome, Verdict, judge
from cloud.fleet.state import DeviceState
from cloud.telemetry.sums import Sums

TAKE_WITHIN_S = 60.0  # a wave waits no longer than this for its devices to take the model
QUIET_S = 300.0  # at the end, devices that have not answered for so long count as away
PATIENCE = 20  # a wave that is undecided after this many times ``rules.watch`` is paused
Orders = dict[str, str | None]  # by device, the model to desire; None leaves it to the device


@dataclass(frozen=True)
class Observation:
    """What the messages of a device say about it."""

    online: bool = False
    answered: bool = False  # whether its report answers the latest desired state
    desired: str | None = None
    model: str = ""
    version: str = ""
    refused: str = ""  # why it does not take the desired model
    lost: bool = False  # whether its report names a desired state that the broker has lost


Observations = Mapping[str, Observation]  # by device


@dataclass(frozen=True)
class Evidence:
    """Telemetry that arrived since the record's mark, as sums by device.

    ``new`` holds messages from the new model, ``old`` those from the models before. ``newest_s`` is
    the arrival of the newest message of the fleet, even if it is older than the mark.
    """

    newest_s: float = 0.0
    new: Mapping[str, Sums] = field(default_factory=dict)
    old: Mapping[str, Sums] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """The next record, and the orders to give after the record has been saved."""

    record: RolloutRecord
    orders: Orders = field(default_factory=dict)


def observe(device: DeviceState) -> Observation:
    """Extract what a roll-out needs to know about ``device``."""
    reported, desired = device.reported, device.desired
    if reported is None or device.ahead is not None:
        lost = device.ahead is not None
        return Observation(device.online, desired=desired.settings.model, lost=lost)
    reasons = [one.reason for one in reported.refused if one.field == "model"]
    return Observation(
        device.online,
        reported.version >= desired.version,
        desired.settings.model,
        reported.settings.model or "",
        reported.model_version,
        (reasons[0] or "refused") if reasons else "",
    )


def step(record: RolloutRecord, seen: Observations, evidence: Evidence, now_s: float) -> Step:
    """Return the next record and orders; ``now_s`` is the driver's clock."""
    match record.progress.phase:
        case Phase.RUNNING:
            return _run(record, seen, evidence, now_s)
        case Phase.SPREADING:
            return _spread(record, seen, now_s)
        case Phase.GOING_BACK | Phase.STOPPED:
            return _go_back(record, seen, now_s)
    return Step(record)


def resumed(record: RolloutRecord, now_s: float) -> RolloutRecord:
    """Return the record with which a new driver continues.

    The last driver may have died before publishing its orders, so devices that are to go back are
    ordered to again.
    """
    progress = record.progress
    back = MemberState.RETURNING
    again = {one.name: MemberState.ASKED for one in record.members.values() if one.state is back}
    record = record.having(again)
    if progress.phase is Phase.PAUSED:
        # Start measuring anew: conditions may have changed during the pause.
        return record.moved(phase=Phase.RUNNING, mark_s=None, since_s=now_s)
    if progress.phase is Phase.RUNNING:
        return record
    return record.moved(since_s=now_s)


def stop(record: RolloutRecord, reason: str) -> RolloutRecord:
    """Return the record after a decision to stop: all devices have to go back."""
    return record.moved(phase=Phase.GOING_BACK, reason=reason)


def _run(record: RolloutRecord, seen: Observations, evidence: Evidence, now_s: float) -> Step:
    due = [one for one in record.members.values() if 0 <= one.wave <= record.progress.wave]
    record, orders = _give(record, due, seen, absent=False)
    due = [record.members[one.name] for one in due]
    refused = [one.name for one in due if one.state is MemberState.REFUSED]
    if len(refused) > record.rules.fail_at_most * len(due):
        why = seen[refused[0]].refused if refused[0] in seen else ""
        text = f"{len(refused)} devices could not take the model, {refused[0]}: {why}"
        return Step(stop(record, text))
    if record.progress.mark_s is None:
        return Step(_mark(record, due, seen, evidence, now_s), orders)
    verdict = _judge(record, due, evidence)
    watched_s = evidence.newest_s - record.progress.mark_s
    text = f"wave {record.progress.wave + 1}: {verdict.reason}"
    if verdict.outcome is Outcome.STOP:
        return Step(stop(record, text))
    if verdict.outcome is Outcome.ACCEPT and watched_s >= record.rules.watch:
        return Step(_next_wave(record, text, now_s), orders)
    if watched_s > PATIENCE * record.rules.watch:
        return Step(record.moved(phase=Phase.PAUSED, reason=f"undecided; {text}"), orders)
    return Step(record.moved(reason=text), orders)


def _mark(
    record: RolloutRecord,
    due: list[Member],
    seen: Observations,
    evidence: Evidence,
    now_s: float,
) -> RolloutRecord:
    """Set the mark, from which telemetry is judged, once the connected devices have the model."""
    took = sum(one.state is MemberState.TOOK for one in due)
    here = [one for one in due if seen.get(one.name, Observation()).online]
    late = now_s - record.progress.since_s > TAKE_WITHIN_S
    open_ = sum(one.state in (MemberState.ASKED, MemberState.WAITING) for one in here)
    number = record.progress.wave + 1
    if not evidence.newest_s:
        return record.moved(reason="the store has no telemetry of this fleet; is it recorded?")
    if not took or (open_ and not late):
        return record.moved(reason=f"wave {number}: {took} of {len(due)} devices have the model")
    return record.moved(mark_s=evidence.newest_s, reason=f"wave {number}: {took} devices have it")


def _judge(record: RolloutRecord, due: list[Member], evidence: Evidence) -> Verdict:
    new = [evidence.new[one.name] for one in due
           if one.state is MemberState.TOOK and one.name in evidence.new]  # fmt: skip
    rest = [evidence.old[one.name] for one in record.of_wave(CONTROL) if one.name in evidence.old]
    return judge(record.rules, new, rest)


def _next_wave(record: RolloutRecord, reason: str, now_s: float) -> RolloutRecord:
    later = [number for number in range(record.progress.wave + 1, record.waves)
             if record.of_wave(number)]  # fmt: skip
    if not later:
        return record.moved(phase=Phase.SPREADING, since_s=now_s, reason=reason)
    return record.moved(wave=later[0], mark_s=None, since_s=now_s, reason=reason)


def _give(
    record: RolloutRecord, due: list[Member], seen: Observations, absent: bool
) -> tuple[RolloutRecord, Orders]:
    """Order the model for those devices of ``due`` that lack it; note their answers in the record.

    Devices that are not connected get an order only with ``absent``.
    """
    target, version = record.rules.model, record.rules.version or record.progress.version
    states: dict[str, MemberState] = {}
    orders: Orders = {}
    for one in due:
        device = seen.get(one.name, Observation())
        if (device.desired != target or device.lost) and (device.online or absent):
            orders[one.name] = target
        if device.online and device.answered and device.model == target:
            version = version or device.version
            good = device.version.startswith(version)
            states[one.name] = MemberState.TOOK if good else MemberState.REFUSED
        elif device.online and device.answered and device.desired == target and device.refused:
            states[one.name] = MemberState.REFUSED
        elif one.name in orders:
            states[one.name] = MemberState.ASKED
    return record.having(states).moved(version=version), orders


def _spread(record: RolloutRecord, seen: Observations, now_s: float) -> Step:
    """Order the accepted model for all devices; those that are away get it when they return."""
    before = record
    record, orders = _give(record, list(record.members.values()), seen, absent=True)
    record = _note_answers(before, record, now_s)
    here = [one for one in record.members.values() if seen.get(one.name, Observation()).online]
    open_ = any(one.state not in (MemberState.TOOK, MemberState.REFUSED) for one in here)
    if orders or (open_ and now_s - record.progress.since_s < QUIET_S):
        return Step(record, orders)
    counts = record.counts()
    took, refused = counts[MemberState.TOOK.value], counts[MemberState.REFUSED.value]
    away = len(record.members) - took - refused
    text = f"{took} devices have {record.rules.model}"
    text += f", {refused} refuse it" * bool(refused) + f", {away} are away" * bool(away)
    return Step(record.moved(phase=Phase.DONE, reason=text))


def _go_back(record: RolloutRecord, seen: Observations, now_s: float) -> Step:
    """Order the former model for all devices that were asked, and wait for their confirmation."""
    before, waiting = record, False
    states: dict[str, MemberState] = {}
    orders: Orders = {}
    for one in record.members.values():
        device = seen.get(one.name, Observation())
        if one.state in TOUCHED:
            # Ordered in any case: a broker that was killed may not show what the device has.
            states[one.name] = MemberState.RETURNING
            orders[one.name] = one.desired
        elif one.state is not MemberState.RETURNING:
            continue
        elif device.desired != one.desired or device.lost:
            orders[one.name] = one.desired
        elif device.online and device.answered and _is_back(one, device, record.rules.model):
            states[one.name] = MemberState.BACK
            continue
        waiting = waiting or device.online
    record = _note_answers(before, record.having(states), now_s)
    if not orders and not (waiting and now_s - record.progress.since_s < QUIET_S):
        return Step(record.moved(phase=Phase.STOPPED))
    return Step(record.moved(phase=Phase.GOING_BACK), orders)


def _is_back(member: Member, device: Observation, target: str) -> bool:
    """Whether a device that confirms its former desired state no longer runs ``target``."""
    return device.model != target or target in (member.desired, member.model)


def _note_answers(before: RolloutRecord, after: RolloutRecord, now_s: float) -> RolloutRecord:
    """Return ``after``, with ``since_s`` set to now if the state of any device has changed."""
    return after if after.members == before.members else after.moved(since_s=now_s)
