"""``python -m cloud.server``: serve the cloud half of split networks over gRPC."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console

import cloud.serving.grpc_polling  # noqa: F401
import shared.quiet_grpc  # noqa: F401  # isort: split
from cloud.observability import logs
from cloud.observability.exposition import exposed
from cloud.observability.metrics import Snapshot
from cloud.serving.announcement import announce
from cloud.serving.process import serving
from cloud.serving.supervisor import supervise
from cloud.settings import FrontKind, LogFormat, LogLevel, ServerSettings, load, to_toml
from shared.typer_app import run_app

SERVER, MODELS, LOAD, SECURITY, OPERATIONS = "Server", "Models", "Load", "Security", "Operations"
SCRAPE_S = 5.0
app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
stderr = Console(stderr=True)


def option(panel: str, text: str, *names: str) -> Any:
    """Make a flag of the help's section ``panel``; its default is that of ``ServerSettings``."""
    return typer.Option(*names, help=text, rich_help_panel=panel)


@app.command()
def serve(
    host: Annotated[str | None, option(SERVER, "Address to listen on.")] = None,
    port: Annotated[
        int | None,
        option(SERVER, "Port to listen on; 0 picks a free one."),
    ] = None,
    http_port: Annotated[
        int | None,
        option(SERVER, "Port of the Open Inference Protocol's REST form; 0: a free one."),
    ] = None,
    workers: Annotated[
        int | None,
        option(SERVER, "Number of processes on that port; one that dies is replaced."),
    ] = None,
    front: Annotated[
        FrontKind | None,
        option(SERVER, "Implementation of gRPC: Python, or C++ (native) if it was built."),
    ] = None,
    threads: Annotated[
        int | None, option(SERVER, "Threads of the native front in each process.")
    ] = None,
    drain_seconds: Annotated[
        float | None,
        option(SERVER, "Time limit for calls under way when the server is stopped."),
    ] = None,
    max_message_bytes: Annotated[int | None, option(SERVER, "Largest size of a request.")] = None,
    model: Annotated[
        list[str] | None,
        option(
            MODELS,
            "Shipped bundle by name, or a bundle file; may be repeated. The first is the "
            "default. Without it and --models every shipped bundle is served.",
        ),
    ] = None,
    models: Annotated[
        Path | None,
        option(MODELS, "Folder of bundles that is watched; new and changed ones are served."),
    ] = None,
    models_poll_seconds: Annotated[
        float | None, option(MODELS, "Seconds between two looks at that folder.")
    ] = None,
    slo_ms: Annotated[
        float | None,
        option(
            LOAD,
            "Objective for 99 in 100 requests, queue and compute; the cloud narrows to keep it.",
        ),
    ] = None,
    cloud_fraction: Annotated[
        float | None,
        option(LOAD, "Pin the cloud's fraction, above 0 to 1."),
    ] = None,
    max_batch: Annotated[
        int | None, option(LOAD, "Most samples computed together; larger requests run in slices.")
    ] = None,
    max_delay_us: Annotated[
        int | None,
        option(LOAD, "Age at which a small batch is computed before fuller ones."),
    ] = None,
    max_queue: Annotated[int | None, option(LOAD, "Most samples that may wait.")] = None,
    max_streams_per_client: Annotated[
        int | None, option(LOAD, "Most open streams of one client.")
    ] = None,
    max_connections_per_client: Annotated[
        int | None,
        option(LOAD, "Most connections of one client with streams."),
    ] = None,
    max_calls_per_client: Annotated[
        int | None, option(LOAD, "Most calls of one client at a time.")
    ] = None,
    max_bytes_per_client: Annotated[
        int | None, option(LOAD, "Most bytes of the requests of those calls.")
    ] = None,
    max_stream_seconds: Annotated[
        float | None,
        option(LOAD, "Age at which a stream is ended; devices open another one."),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        option(SECURITY, "Certificate (PEM); read again when it changes."),
    ] = None,
    tls_key: Annotated[Path | None, option(SECURITY, "Key of --tls-cert (PEM).")] = None,
    client_ca: Annotated[
        Path | None,
        option(SECURITY, "Clients must show a certificate of this CA."),
    ] = None,
    token_file: Annotated[
        Path | None,
        option(
            SECURITY,
            "Clients must show a bearer token of this file, which has NAME TOKEN on each line.",
        ),
    ] = None,
    admin_token_file: Annotated[
        Path | None,
        option(SECURITY, "Clients with a token of this file may load and unload models."),
    ] = None,
    mqtt: Annotated[
        str | None,
        option(
            SERVER,
            "Also answer devices at this broker: **mqtt://HOST:PORT** or **mqtts://USER@...**; the "
            "password is in TAPER_BROKER_PASSWORD.",
        ),
    ] = None,
    mqtt_ca: Annotated[
        Path | None, option(SECURITY, "Authority of the broker's certificate (PEM).")
    ] = None,
    metrics_host: Annotated[
        str | None,
        option(OPERATIONS, "Address of the metrics endpoint."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        option(OPERATIONS, "Port of Prometheus metrics; 0: a free one."),
    ] = None,
    log_format: Annotated[LogFormat | None, option(OPERATIONS, "Format of log lines.")] = None,
    log_level: Annotated[LogLevel | None, option(OPERATIONS, "Least severe lines to log.")] = None,
    reflection: Annotated[
        bool | None,
        option(
            OPERATIONS,
            "Serve reflection, which tells tools what is served.",
            "--reflection/--no-reflection",
        ),
    ] = None,
    otlp_endpoint: Annotated[
        str | None,
        option(OPERATIONS, "Send a span of every request to this collector: http://HOST:4317."),
    ] = None,
    config: Annotated[
        Path | None,
        option(OPERATIONS, "TOML file of settings; flags and TAPER_... beat it."),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the settings as a configuration file and stop."),
    ] = False,
) -> None:
    """Serve the cloud half of split networks over gRPC, until Ctrl-C or SIGTERM.

    The first line on standard output is **listening on HOST:PORT**.
    """
    flags = {name: value for name, value in locals().items() if name in ServerSettings.model_fields}
    settings = load(flags, config)
    if print_config:
        sys.stdout.write(to_toml(settings))
        return
    logs.set_up(settings.log_format, settings.log_level)
    uvloop.run(run(settings) if settings.workers == 1 else supervise(settings))


async def run(settings: ServerSettings) -> None:
    """Serve in this process until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(settings) as server:
        loop = asyncio.get_running_loop()

        def take() -> Snapshot:  # called in the metrics thread; counters belong to the event loop
            return asyncio.run_coroutine_threadsafe(server.snapshot(), loop).result(SCRAPE_S)

        async with exposed(take, settings.metrics_host, settings.metrics_port) as port:
            announce(settings, server.port, port, server.http_port)
            stderr.print(
                f"models: {', '.join(server.model_names) or 'none yet'}",
                markup=False,
                highlight=False,
            )
            await stop.wait()
            stderr.print("stopping", highlight=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
