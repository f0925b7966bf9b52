"""``python -m cloud.serving.worker SETTINGS``: a server process that the supervisor starts."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import uvloop
from rich.console import Console

import cloud.serving.grpc_polling  # noqa: F401
import shared.quiet_grpc  # noqa: F401  # isort: split
from cloud.observability import logs
from cloud.serving.process import ServerProcess, serving
from cloud.settings import ServerSettings
from shared.errors import TaperError


async def work(settings: ServerSettings) -> None:
    """Serve until SIGTERM, or until standard input ends because the supervisor is gone."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with serving(settings, shared_port=True) as server:
        try:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        except BrokenPipeError:  # the supervisor has ended already
            return
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        reporting = asyncio.create_task(report(reader, server, stop))
        await stop.wait()
        reporting.cancel()


async def report(reader: asyncio.StreamReader, server: ServerProcess, stop: asyncio.Event) -> None:
    """Print the metrics for each line of input; set ``stop`` at the end of input."""
    while line := await reader.readline():
        snapshot = await server.snapshot()
        sys.stdout.write(json.dumps([int(line), snapshot.to_json()]) + "\n")
        sys.stdout.flush()
    stop.set()


def main() -> None:
    """Run the worker."""
    settings = ServerSettings.model_validate_json(sys.argv[1])
    logs.set_up(settings.log_format, settings.log_level)
    try:
        uvloop.run(work(settings))
    except* TaperError as group:
        Console(stderr=True).print(f"error: {group.exceptions[0]}", markup=False, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
