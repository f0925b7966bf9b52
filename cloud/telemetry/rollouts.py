"""Read and write the roll-outs in the telemetry store: functions of a connection.

A roll-out has one driver at a time, the process that carries it out. The driver writes its name
and a sign of life, and every write checks that it is still the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from cloud.telemetry import tables
from shared.errors import UsageError

_R = tables.rollout.c
ALIVE_S = 15.0  # a driver without a sign of life for this long counts as dead


@dataclass(frozen=True)
class RolloutRow:
    """A roll-out; ``rules`` and ``progress`` are JSON, times are seconds since 1970."""

    fleet: str
    number: int
    rules: str
    progress: str
    wish: str
    who: str
    started_s: float
    changed_s: float
    driver: str
    alive_s: float


@dataclass(frozen=True)
class MemberRow:
    """A device of a roll-out."""

    device: str
    wave: int
    state: str
    desired: str | None
    model: str
    version: str


def insert(connection: Connection, row: RolloutRow, members: Iterable[MemberRow]) -> None:
    """Insert a new roll-out with all its devices."""
    connection.execute(tables.rollout.insert(), [vars(row)])
    key = {"fleet": row.fleet, "number": row.number}
    connection.execute(tables.rollout_device.insert(), [{**key, **vars(one)} for one in members])


def last(connection: Connection, fleet: str) -> RolloutRow | None:
    """Return the latest roll-out of ``fleet``; None if there was none."""
    query = select(tables.rollout).where(_R.fleet == fleet).order_by(_R.number.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else RolloutRow(*row)


def every(connection: Connection, fleet: str) -> list[RolloutRow]:
    """Return all roll-outs of ``fleet``, the latest first."""
    query = select(tables.rollout).where(_R.fleet == fleet).order_by(_R.number.desc())
    return [RolloutRow(*row) for row in connection.execute(query)]


def members(connection: Connection, fleet: str, number: int) -> list[MemberRow]:
    """Return the devices of a roll-out, by name."""
    one = tables.rollout_device.c
    columns = (one.device, one.wave, one.state, one.desired, one.model, one.version)
    query = select(*columns).where(one.fleet == fleet, one.number == number).order_by(one.device)
    return [MemberRow(*row) for row in connection.execute(query)]


def take(
    connection: Connection, fleet: str, number: int, driver: str, now_s: float, dead: str = ""
) -> None:
    """Make ``driver`` the driver of a roll-out; ``UsageError`` if another one is alive.

    ``dead`` names a driver that is known to have ended, whatever its last sign of life.
    """
    free = (_R.driver.in_(("", driver, dead))) | (_R.alive_s < now_s - ALIVE_S)
    done = connection.execute(
        update(tables.rollout)
        .where(_R.fleet == fleet, _R.number == number, free)
        .values(driver=driver, alive_s=now_s)
    )
    if not done.rowcount:
        raise UsageError(f"rollout: another process carries out roll-out {number} of {fleet}")


def save(
    connection: Connection,
    row: RolloutRow,
    changed: Sequence[MemberRow],
) -> None:
    """Write the progress of a roll-out and the states of changed devices.

    ``UsageError`` if another process has become its driver.
    """
    done = connection.execute(
        update(tables.rollout)
        .where(_R.fleet == row.fleet, _R.number == row.number, _R.driver == row.driver)
        .values(progress=row.progress, changed_s=row.changed_s, alive_s=row.alive_s)
    )
    if not done.rowcount:
        raise UsageError(f"rollout: another process carries out roll-out {row.number} now")
    one = tables.rollout_device.c
    for member in changed:
        same = (one.fleet == row.fleet, one.number == row.number, one.device == member.device)
        connection.execute(update(tables.rollout_device).where(*same).values(state=member.state))


def release(connection: Connection, fleet: str, number: int, driver: str) -> None:
    """Remove ``driver`` as the driver of a roll-out."""
    same = (_R.fleet == fleet, _R.number == number, _R.driver == driver)
    connection.execute(update(tables.rollout).where(*same).values(driver="", alive_s=0.0))


def set_wish(connection: Connection, fleet: str, number: int, text: str) -> None:
    """Write an operator's wish for a roll-out: ``pause``, ``abort`` or an empty text."""
    same = (_R.fleet == fleet, _R.number == number)
    connection.execute(update(tables.rollout).where(*same).values(wish=text))


def next_number(connection: Connection, fleet: str) -> int:
    """Return the number for the next roll-out of ``fleet``."""
    query = select(func.max(_R.number)).where(_R.fleet == fleet)
    return int(connection.execute(query).scalar() or 0) + 1
