"""The decisions of a roll-out: the record and what is seen give the next record and orders. Pure.

A step may be repeated: it compares what should be with what is, so that a driver that died, or a
broker that lost what it had, is mended by the next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud.fleet.rollout.record import CONTROL, TOUCHED, Member, MemberState, Phase, RolloutRecord
from cloud.fleet.rollout.sequential import Outcome, Verdict, judge
from cloud.fleet.state import DeviceState
from cloud.telemetry.sums import Sums

TAKE_WITHIN_S = 60.0  # devices that have not taken the model by then are not waited for
QUIET_S = 300.0  # at the end: without an answer for so long, the others count as away
PATIENCE = 20  # times the watch: a wave that is undecided for so long is paused
Orders = dict[str, str | None]  # the model to desire by device; None for the device's own


@dataclass(frozen=True)
class Seen:
    """A device as its messages say."""

    online: bool = False
    answered: bool = False  # whether its report answers the latest desired state
    desired: str | None = None
    model: str = ""
    version: str = ""
    refused: str = ""  # why it does not take the desired model
    lost: bool = False  # whether it has a later desired state than is known


@dataclass(frozen=True)
class Evidence:
    """Telemetry since the mark: sums by device of messages of the new model, and of the old ones.

    ``newest_s`` is the arrival of the newest message, before the mark too.
    """

    newest_s: float = 0.0
    new: Mapping[str, Sums] = field(default_factory=dict)
    old: Mapping[str, Sums] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """The next record, and orders to give once it is kept."""

    record: RolloutRecord
    orders: Orders = field(default_factory=dict)


def look(device: DeviceState) -> Seen:
    """Return ``device`` as a roll-out sees it."""
    reported, desired = device.reported, device.desired
    if reported is None or device.ahead is not None:
        lost = device.ahead is not None
        return Seen(device.online, desired=desired.settings.model, lost=lost)
    reasons = [one.reason for one in reported.refused if one.field == "model"]
    return Seen(
        device.online,
        reported.version >= desired.version,
        desired.settings.model,
        reported.settings.model or "",
        reported.model_version,
        (reasons[0] or "refused") if reasons else "",
    )


def step(record: RolloutRecord, seen: Mapping[str, Seen], evidence: Evidence, now_s: float) -> Step:
    """Return what follows from what is seen."""
    match record.progress.phase:
        case Phase.RUNNING:
            return _run(record, seen, evidence, now_s)
        case Phase.SPREADING:
            return _spread(record, seen, now_s)
        case Phase.GOING_BACK | Phase.STOPPED:
            return _go_back(record, seen, now_s)
    return Step(record)


def resumed(record: RolloutRecord, now_s: float) -> RolloutRecord:
    """Return a record that another driver goes on with.

    Whether the last driver's orders went out is not known, so devices that go back are told again.
    """
    progress = record.progress
    back = MemberState.RETURNING
    told = {one.name: MemberState.ASKED for one in record.members.values() if one.state is back}
    record = record.having(told)
    if progress.phase is Phase.PAUSED:
        # What was measured before the pause is of another time.
        return record.moved(phase=Phase.RUNNING, mark_s=None, since_s=now_s)
    if progress.phase is Phase.RUNNING:
        return record
    return record.moved(since_s=now_s)


def stop(record: RolloutRecord, reason: str) -> RolloutRecord:
    """Return the record of a roll-out whose devices have to go back."""
    return record.moved(phase=Phase.GOING_BACK, reason=reason)


def _run(record: RolloutRecord, seen: Mapping[str, Seen], evidence: Evidence, now_s: float) -> Step:
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
    seen: Mapping[str, Seen],
    evidence: Evidence,
    now_s: float,
) -> RolloutRecord:
    """Begin to watch once the devices that are there have the model."""
    took = sum(one.state is MemberState.TOOK for one in due)
    here = [one for one in due if (look := seen.get(one.name)) is not None and look.online]
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
    record: RolloutRecord, due: list[Member], seen: Mapping[str, Seen], absent: bool
) -> tuple[RolloutRecord, Orders]:
    """Ask those of ``due`` that have not got the model; the absent only with ``absent``."""
    target, version = record.rules.model, record.rules.version or record.progress.version
    states: dict[str, MemberState] = {}
    orders: Orders = {}
    for one in due:
        device = seen.get(one.name, Seen())
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


def _spread(record: RolloutRecord, seen: Mapping[str, Seen], now_s: float) -> Step:
    """Give the accepted model to everybody; those who are away find it when they are back."""
    before = record
    record, orders = _give(record, list(record.members.values()), seen, absent=True)
    record = _note_answers(before, record, now_s)
    here = [one for one in record.members.values() if seen.get(one.name, Seen()).online]
    open_ = any(one.state not in (MemberState.TOOK, MemberState.REFUSED) for one in here)
    if orders or (open_ and now_s - record.progress.since_s < QUIET_S):
        return Step(record, orders)
    counts = record.counts()
    took, refused = counts[MemberState.TOOK.value], counts[MemberState.REFUSED.value]
    away = len(record.members) - took - refused
    text = f"{took} devices have {record.rules.model}"
    text += f", {refused} refuse it" * bool(refused) + f", {away} are away" * bool(away)
    return Step(record.moved(phase=Phase.DONE, reason=text))


def _go_back(record: RolloutRecord, seen: Mapping[str, Seen], now_s: float) -> Step:
    """Restore what the devices had, and have each confirm it."""
    before, waiting = record, False
    states: dict[str, MemberState] = {}
    orders: Orders = {}
    for one in record.members.values():
        device = seen.get(one.name, Seen())
        if one.state in TOUCHED:
            # Told in any case: a broker that was killed need not know that it has the model.
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


def _is_back(member: Member, device: Seen, target: str) -> bool:
    """Whether a device that answers its old desired state has left the model ``target``."""
    return device.model != target or target in (member.desired, member.model)


def _note_answers(before: RolloutRecord, after: RolloutRecord, now_s: float) -> RolloutRecord:
    """Return ``after`` with the time of the last change of a device."""
    return after if after.members == before.members else after.moved(since_s=now_s)
