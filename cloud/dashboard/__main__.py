"""``python -m cloud.dashboard``: watch a fleet in a browser and change its settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

import typer

from cloud.fleet.flags import Site, of_a_fleet
from shared.command import needing_extra
from shared.errors import UsageError
from shared.typer_app import run_app

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command()
@of_a_fleet("dashboard")
def serve(
    store: Annotated[
        str | None,
        typer.Option("--store", help="The recorder's store, for the timelines of devices."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Metrics page of the cloud server: **http://HOST:PORT/metrics**."),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; other than this machine only with --trust-header."
        ),
    ] = "127.0.0.1",
    trust_header: Annotated[
        str | None, typer.Option(help="Header in which a proxy names the user.")
    ] = None,
    role_header: Annotated[
        str,
        typer.Option(help="Header in which the proxy names the role, **viewer** or **operator**."),
    ] = "X-Taper-Role",
    proxy: Annotated[
        list[str] | None, typer.Option(help="Address of the proxy; by default this machine.")
    ] = None,
    own_network: Annotated[
        bool,
        typer.Option("--own-network", help="Only operators can reach --host, e.g. in a container."),
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    *,
    site: Site,
) -> None:
    """Serve the dashboard until Ctrl-C. It reads the broker and needs no recorder."""
    with needing_extra("dashboard"):
        from cloud.dashboard.cloud_page import CloudPage
        from cloud.dashboard.live import LiveFleet
        from cloud.dashboard.people import Access
        from cloud.telemetry.database import parse_store

    if metrics is not None and not metrics.startswith(("http://", "https://")):
        raise UsageError(f"--metrics: {metrics!r} is not allowed; give http://HOST:PORT/metrics")
    if store is not None:
        parse_store(store)
    cloud = None if metrics is None else CloudPage(metrics)
    access = Access(host, trust_header, role_header, tuple(proxy or ()), own_network)
    access.check()
    with needing_extra("dashboard"):  # takes seconds to import, so wrong flags are reported first
        from cloud.dashboard.pages import run
    run(LiveFleet(site.broker, site.fleet, store, cloud), access, port)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    run_app(app, arguments)


if __name__ in {"__main__", "__mp_main__"}:
    main()
