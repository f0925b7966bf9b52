"""The flags of a broker, which many commands share, and ages."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from cloud.fleet.flags import Site, of_a_fleet, parse_since

YEAR_S = 365 * 86_400.0


@pytest.mark.parametrize(
    ("words", "user"),
    [
        ((), None),
        (("--password", "x"), "watcher"),
        (("--password", "x", "--user", "alice"), "alice"),
    ],
)
def test_a_command_gets_the_broker_as_who_it_is_named(
    words: tuple[str, ...], user: str | None
) -> None:
    given: list[tuple[str, int, Site]] = []
    app = typer.Typer()

    @app.command()
    @of_a_fleet("watcher")
    def look(target: Annotated[str, typer.Argument()], rows: int = 20, *, site: Site) -> None:
        given.append((target, rows, site))

    flags = ("--broker", "mqtt://broker:1884", "--fleet", "city")
    done = CliRunner().invoke(app, ["north", "--rows", "3", *flags, *words])
    assert done.exit_code == 0, done.output
    ((target, rows, site),) = given
    assert (target, rows, site.fleet) == ("north", 3, "city")
    assert (site.broker.host, site.broker.port, site.broker.username) == ("broker", 1884, user)


def test_an_age_counts_from_now_or_from_a_recorder_whose_clock_is_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1_800_000_000.0
    monkeypatch.setattr("cloud.fleet.flags.time.time", lambda: now_s)
    assert parse_since(None, now_s + YEAR_S) == 0.0
    assert parse_since("1h", now_s - YEAR_S) == now_s - 3600
    assert parse_since("1h", now_s + YEAR_S) == now_s + YEAR_S - 3600
    assert parse_since("2026-05-01", now_s + YEAR_S) == 1_777_593_600.0
