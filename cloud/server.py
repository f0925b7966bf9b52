"""``python -m cloud.server``: serve the cloud half of split networks over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from rich.console import Console

from cloud.models import Models
from cloud.servicer import SplitInferenceServicer
from protos.split.v1 import split_pb2, split_pb2_grpc
from shared.bundle import read_bundle
from shared.bundles import bundle_path, shipped
from shared.errors import TaperError, UsageError
from shared.protocol import DEFAULT_MAX_MESSAGE_BYTES

SERVICE = split_pb2.DESCRIPTOR.services_by_name["SplitInference"].full_name
app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
stderr = Console(stderr=True)


@dataclass(frozen=True)
class Settings:
    """Where and how to serve; port 0 means a free one."""

    host: str = "0.0.0.0"  # noqa: S104 - a server in a container must listen on all addresses
    port: int = 50051
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    drain_seconds: float = 5.0


@contextlib.asynccontextmanager
async def serving(models: Models, settings: Settings) -> AsyncIterator[int]:
    """Serve ``models`` while the block runs; yields the port. Requests in flight finish at exit."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            # Two servers on one port by mistake would each get half of the requests.
            ("grpc.so_reuseport", 0),
        ]
    )
    # Codecs and halves are used by one thread; the event loop stays free for the network.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute") as executor:
        split_pb2_grpc.add_SplitInferenceServicer_to_server(
            SplitInferenceServicer(models, executor), server
        )
        checks = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        address = f"{settings.host}:{settings.port}"
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:
            raise UsageError(f"--host/--port: cannot listen on {address}") from None
        await server.start()
        for name in ("", SERVICE):
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield port
        finally:
            await checks.enter_graceful_shutdown()
            await server.stop(settings.drain_seconds)


async def run(models: Models, settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(models, settings) as port:
        # The first line on standard output: whoever started the server with port 0 reads it.
        sys.stdout.write(f"listening on {settings.host}:{port}\n")
        sys.stdout.flush()
        stderr.print(f"models: {', '.join(models.names())}", markup=False, highlight=False)
        await stop.wait()
        stderr.print("stopping", highlight=False)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = Settings.host,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = Settings.port,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Shipped bundle by name, or a bundle file; may be repeated. The first is the "
            "default. Without it every shipped bundle is served."
        ),
    ] = None,
    max_message_bytes: Annotated[
        int, typer.Option(min=1024, help="Largest request that is read.")
    ] = Settings.max_message_bytes,
    drain_seconds: Annotated[
        float, typer.Option(min=0.0, help="How long requests in flight may take at the end.")
    ] = Settings.drain_seconds,
) -> None:
    """Serve the cloud half of split networks over gRPC, until Ctrl-C or SIGTERM.

    The first line on standard output is **listening on HOST:PORT**.
    """
    bundles = [read_bundle(bundle_path(name)) for name in model or shipped()]
    if not bundles:
        raise UsageError("--model: no bundle ships with this installation; name a bundle file")
    asyncio.run(run(Models(bundles), Settings(host, port, max_message_bytes, drain_seconds)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    try:
        app(arguments)
    except TaperError as error:
        stderr.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
