"""Flags that several commands of ``cloud.fleet`` and the dashboard share, and their parsing."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from shared.durations import duration_s
from shared.errors import UsageError
from shared.fleet.broker import Broker, parse_broker
from shared.fleet.messages import check_name

LOCAL = "mqtt://localhost:1883"
STORE = "taper-fleet.sqlite"
SINCE_RULE = "give 30m, 12h, 7d or a time such as 2026-05-01 or 2026-05-01T12:00 (UTC)"

Url = Annotated[str, typer.Option("--broker", help="**mqtt://HOST:PORT** or **mqtts://...**.")]
Fleet = Annotated[str, typer.Option("--fleet", help="Name of the fleet.")]
Password = Annotated[
    str | None, typer.Option(envvar="TAPER_BROKER_PASSWORD", help="For the broker, or **@FILE**.")
]
User = Annotated[
    str | None,
    typer.Option(help="For the broker; **controller**, **operator**, **watcher** by command."),
]
Authority = Annotated[Path | None, typer.Option("--ca", help="Certificates to trust (PEM).")]
StoreUrl = Annotated[
    str,
    typer.Option("--store", help="Where telemetry is: a file (SQLite) or **postgresql://...**."),
]
Keep = Annotated[
    float, typer.Option("--keep", min=0.01, help="Days after which messages are dropped.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="What arrived since then: **30m**, **12h**, **7d** or a time."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write; it is replaced.")]


def parse_where(
    url: str, user: str | None, role: str, password: str | None, ca: Path | None
) -> Broker:
    """Return the broker with its credentials: ``user``, or ``role`` if only a password is given."""
    return parse_broker(url, user or (None if password is None else role), password, ca)


def parse_fleet(fleet: str) -> str:
    """Return ``fleet`` if it is a name, else ``UsageError``."""
    try:
        return check_name(fleet, "--fleet")
    except ValueError as error:
        raise UsageError(str(error)) from None


def parse_since(text: str | None, newest_s: float = 0.0) -> float:
    """Return ``--since`` in seconds since 1970; 0 without it.

    An age counts from now, or from the last arrival ``newest_s`` if the recorder's clock is ahead.
    """
    if text is None:
        return 0.0
    with contextlib.suppress(ValueError):
        return max(max(time.time(), newest_s) - duration_s(text), 0.0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since: {text!r} is not allowed; {SINCE_RULE}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
