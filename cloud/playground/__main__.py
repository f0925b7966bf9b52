"""``python -m cloud.playground``: serve a page on which a browser tries split inference."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from shared.command import needing_extra
from shared.errors import UsageError
from shared.typer_app import run_app

TOKEN_VARIABLE = "TAPER_TOKEN"  # noqa: S105 - the name of a variable

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command()
def serve(
    server: Annotated[
        str,
        typer.Option(help="REST address of the cloud server (**--http-port**): http://HOST:PORT."),
    ] = "http://localhost:8000",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets phones in the network connect.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8090,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name by which browsers reach this machine; may be repeated."),
    ] = None,
    self_signed: Annotated[
        bool,
        typer.Option(
            "--self-signed",
            help="Use HTTPS with a certificate that is made at the start, for phones.",
        ),
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for HTTPS, in PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of --tls-cert, in PEM.")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="Authority of the cloud server's certificate, in PEM.")
    ] = None,
    websockets: Annotated[
        str | None,
        typer.Option(help="A fleet's broker for browsers: ws://HOST:PORT or wss://HOST:PORT."),
    ] = None,
    enrolments: Annotated[
        Path | None,
        typer.Option(help="Folder of one-time codes (**cloud.fleet enrol**) for that fleet."),
    ] = None,
) -> None:
    """Serve the page until Ctrl-C, and pass its requests on to the cloud server.

    The variable `TAPER_TOKEN` is the token for that server; the page never sees it.
    """
    with needing_extra("http"):
        from cloud.playground.application import Membership, application, check_built
        from cloud.playground.listening import Listening, run
    from cloud.playground.enrolment import Enrolments
    from cloud.playground.relay import Relay

    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert, --tls-key: give both or none")
    if self_signed and tls_cert is not None:
        raise UsageError("--self-signed: --tls-cert is given already")
    membership = None
    if websockets is not None and enrolments is not None:
        membership = Membership(parse_websockets(websockets), Enrolments(enrolments))
    elif websockets is not None or enrolments is not None:
        raise UsageError("--websockets, --enrolments: give both or none")
    check_built(with_fleet=membership is not None)
    relay = Relay(server, os.environ.get(TOKEN_VARIABLE), ca)
    names = tuple(one.lower() for one in name or ())
    listening = Listening(host, port, names, self_signed, tls_cert, tls_key)
    run(application(relay, names, membership), listening)


def parse_websockets(url: str) -> str:
    """Return ``url`` if it is ws://HOST:PORT or wss://HOST:PORT, else raise ``UsageError``."""
    if not re.fullmatch(r"wss?://[A-Za-z0-9.:\[\]-]+", url):
        raise UsageError(f"--websockets: {url!r} is not allowed; give ws://HOST:PORT or wss://...")
    return url


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
