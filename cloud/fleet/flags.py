"""Flags that commands of ``cloud.fleet`` and the dashboard share, and how they are parsed."""

from __future__ import annotations

import contextlib
import functools
import getpass
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, get_type_hints

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
    str | None,
    typer.Option(
        envvar="TAPER_BROKER_PASSWORD", help="Password for the broker, or **@FILE** that holds it."
    ),
]
User = Annotated[
    str | None,
    typer.Option(
        help="User at the broker; default, by command: **controller**, **operator** or **watcher**."
    ),
]
Authority = Annotated[Path | None, typer.Option("--ca", help="Certificates to trust (PEM).")]
StoreUrl = Annotated[
    str,
    typer.Option("--store", help="Store of telemetry: a file (SQLite) or **postgresql://...**."),
]
Keep = Annotated[
    float, typer.Option("--keep", min=0.01, help="Days after which messages are dropped.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", help="Only messages that arrived since then: **30m**, **12h**, **7d** or a time."
    ),
]
TrailStore = Annotated[
    str | None,
    typer.Option("--store", help=f"Store that records the change; **{STORE}** if that is here."),
]
Who = Annotated[
    str | None,
    typer.Option(help="Who makes the change, for the audit trail; default: your user name."),
]
CONNECTION = {"broker": Url, "fleet": Fleet, "user": User, "password": Password, "ca": Authority}
Output = Annotated[
    Path, typer.Option("--output", "-o", help="File to write; an existing one is replaced.")
]


@dataclass(frozen=True)
class Site:
    """The broker and the fleet that a command works with."""

    broker: Broker
    fleet: str


def of_a_fleet(role: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces a command's parameter ``site`` by flags of broker and fleet.

    ``role`` is the user at the broker if a password is given and no user.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(
            broker: Url = LOCAL,
            fleet: Fleet = "default",
            user: User = None,
            password: Password = None,
            ca: Authority = None,
            **given: object,
        ) -> None:
            who = user or (None if password is None else role)
            site = Site(parse_broker(broker, who, password, ca), parse_fleet(fleet))
            command(**given, site=site)

        # Typer derives flags from the signature and the annotations.
        hints = get_type_hints(command, include_extras=True)
        own = [
            one.replace(annotation=hints[name])
            for name, one in inspect.signature(command).parameters.items()
            if name != "site"
        ]
        shared = [
            one.replace(annotation=CONNECTION[name])
            for name, one in inspect.signature(run, follow_wrapped=False).parameters.items()
            if name in CONNECTION
        ]
        every = sorted(
            (one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)),
            key=lambda one: one.default is not inspect.Parameter.empty,
        )
        run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in every}
        del run.__wrapped__  # typer would read its annotations instead
        return run

    return decorate


def parse_fleet(fleet: str) -> str:
    """Return ``fleet`` if it is a valid name; raises ``UsageError`` otherwise."""
    try:
        return check_name(fleet, "--fleet")
    except ValueError as error:
        raise UsageError(str(error)) from None


def parse_who(who: str | None) -> str:
    """Return who makes a change: the given name, by default that of the system's user."""
    return who or getpass.getuser()


def parse_since(text: str | None, newest_s: float = 0.0) -> float:
    """Return the time ``--since`` in seconds since 1970; 0 without it.

    An age such as 7d counts back from now or, if the recorder's clock is ahead, from ``newest_s``,
    its last arrival.
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
