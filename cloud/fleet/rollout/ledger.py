"""Keep the records of roll-outs in the telemetry store, and read evidence from it. Calls block."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from cloud.fleet.rollout.core import Evidence
from cloud.fleet.rollout.record import Member, MemberState, Progress, RolloutRecord, plan
from cloud.fleet.state import DeviceState, FleetState, RefusedError
from cloud.telemetry import rollouts
from cloud.telemetry.database import open_writing, translated
from cloud.telemetry.queries import newest_s, states, sums_since
from cloud.telemetry.rollouts import MemberRow, RolloutRow
from cloud.telemetry.sums import Sums, add_up
from shared.errors import UsageError
from shared.fleet.messages import MessageKind, Reported
from shared.fleet.scenario import Rollout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


class RolloutLedger:
    """The roll-outs of ``fleet`` in the store ``url``, for one driver."""

    def __init__(self, url: str, fleet: str) -> None:
        self.fleet = fleet
        self._driver = f"{platform.node()}:{os.getpid()}:{secrets.token_hex(6)}"
        self._engine = open_writing(url)
        self._kept: RolloutRecord | None = None
        self._row: RolloutRow | None = None
        self._read_s = 0.0  # telemetry that arrived up to this time is in the sums
        self._sums: dict[tuple[str, str, str], Sums] = {}

    def close(self) -> None:
        """Close the store."""
        self._engine.dispose()

    def remember(self, state: FleetState) -> None:
        """Add to ``state`` what the store knows and a broker that was killed has lost."""
        with self._transaction() as connection:
            found = states(connection, self.fleet)
        for name, messages in found.items():
            if MessageKind.BIRTH not in messages:
                continue
            device = state.device(name)
            kinds = [MessageKind.DESIRED]
            kinds += [MessageKind.BIRTH, MessageKind.DEATH] * (device.birth is None)
            known, stored = device.reported, messages.get(MessageKind.REPORTED)
            if isinstance(stored, Reported) and (known is None or known.session < stored.session):
                kinds.append(MessageKind.REPORTED)
            for kind in kinds:
                if kind in messages:
                    with suppress(RefusedError):  # a report that names a lost version
                        device.learn(messages[kind])

    def start(self, rules: Rollout, devices: Sequence[DeviceState], who: str) -> RolloutRecord:
        """Store a new roll-out, with the present model of every device, and become its driver.

        ``UsageError`` if another roll-out is not over.
        """
        with self._transaction() as connection:
            last = rollouts.last(connection, self.fleet)
            if last is not None and not _progress(last).phase.over:
                text = f"roll-out {last.number} is {_progress(last).phase.value}"
                raise UsageError(f"rollout: {text}; use rollout resume or abort")
            now_s = time.time()
            number = rollouts.next_number(connection, self.fleet)
            record = plan(self.fleet, number, rules, devices, now_s)
            row = RolloutRow(
                self.fleet, number, rules.model_dump_json(), _encode(record.progress), "", who,
                now_s, now_s, self._driver, now_s,
            )  # fmt: skip
            rollouts.insert(connection, row, map(_row_of, record.members.values()))
        self._kept, self._row = record, row
        return record

    def last(self) -> tuple[RolloutRecord, RolloutRow] | None:
        """Return the latest roll-out and its row; None if there was none."""
        with self._transaction() as connection:
            row = rollouts.last(connection, self.fleet)
            return None if row is None else (self._read(connection, row), row)

    def take(self) -> RolloutRecord:
        """Become the latest roll-out's driver; ``UsageError`` if there is none or it has
        a driver.
        """
        with self._transaction() as connection:
            row = rollouts.last(connection, self.fleet)
            if row is None:
                raise UsageError(f"rollout: fleet {self.fleet} has none")
            dead = row.driver if has_ended(row.driver) else ""
            rollouts.take(connection, self.fleet, row.number, self._driver, time.time(), dead)
            record = self._read(connection, row)
        self._kept, self._row = record, replace(row, driver=self._driver)
        return record

    def save(self, record: RolloutRecord) -> str:
        """Save ``record`` and a sign of life; return the operator's wish: pause, abort or ""."""
        before, row = self._kept, self._row
        assert before is not None  # noqa: S101 - start or take came first
        assert row is not None  # noqa: S101
        now_s = time.time()
        changed = [one for one in record.members.values() if one != before.members[one.name]]
        moved = bool(changed) or record.progress != before.progress
        row = replace(
            row,
            progress=_encode(record.progress),
            changed_s=now_s if moved else row.changed_s,
            alive_s=now_s,
        )
        with self._transaction() as connection:
            rollouts.save(connection, row, [_row_of(one) for one in changed])
            found = rollouts.last(connection, self.fleet)
        self._kept, self._row = record, row
        return "" if found is None else found.wish

    def set_wish(self, text: str) -> None:
        """Store an operator's wish for the latest roll-out: pause, abort or ""."""
        with self._transaction() as connection:
            row = rollouts.last(connection, self.fleet)
            if row is not None:
                rollouts.set_wish(connection, self.fleet, row.number, text)

    def release(self) -> None:
        """Stop being the driver."""
        if self._row is not None:
            with self._transaction() as connection:
                rollouts.release(connection, self.fleet, self._row.number, self._driver)

    def evidence(self, record: RolloutRecord) -> Evidence:
        """Return the telemetry since the record's mark; reads only what arrived since the last
        call.
        """
        mark_s = record.progress.mark_s
        with self._transaction() as connection:
            newest = newest_s(connection, self.fleet)
            if mark_s is None:
                self._sums, self._read_s = {}, 0.0
                return Evidence(newest)
            after_s = max(self._read_s, mark_s)
            for key, sums in sums_since(connection, self.fleet, after_s).items():
                known = self._sums.get(key)
                self._sums[key] = sums if known is None else add_up([known, sums])
            self._read_s = max(newest, after_s)
        return self._split(record, newest)

    def _split(self, record: RolloutRecord, newest: float) -> Evidence:
        target, version = record.rules.model, record.rules.version or record.progress.version
        new: dict[str, Sums] = {}
        old: dict[str, Sums] = {}
        for (device, model, model_version), sums in self._sums.items():
            # Telemetry, and perhaps the rules, hold only the first digits of a version.
            if model == target and model_version[: len(version)] == version[: len(model_version)]:
                new[device] = sums
            elif device in record.members and record.members[device].model in ("", model):
                # An empty name: the device had not reported its model yet when the roll-out began.
                old[device] = add_up([old[device], sums]) if device in old else sums
        return Evidence(newest, new, old)

    def _read(self, connection: Connection, row: RolloutRow) -> RolloutRecord:
        found = rollouts.members(connection, self.fleet, row.number)
        members = {
            one.device: Member(
                one.device, one.wave, one.desired, one.model, one.version, MemberState(one.state)
            )
            for one in found
        }
        rules = Rollout.model_validate_json(row.rules)
        return RolloutRecord(self.fleet, row.number, rules, members, _progress(row))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with translated(self._engine.url), self._engine.begin() as connection:
            yield connection


def _encode(progress: Progress) -> str:
    return msgspec.json.encode(progress).decode()


def _progress(row: RolloutRow) -> Progress:
    return msgspec.json.decode(row.progress, type=Progress)


def _row_of(member: Member) -> MemberRow:
    return MemberRow(
        member.name, member.wave, member.state.value, member.desired, member.model, member.version
    )


def has_ended(driver: str) -> bool:
    """Whether ``driver`` was a process of this machine that no longer runs."""
    host, _, rest = driver.rpartition(":")[0].rpartition(":")
    if host != platform.node() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
