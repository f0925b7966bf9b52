"""``python -m cloud.serving.worker SETTINGS``: one of several serving processes.

``cloud.serving.supervisor`` starts it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import uvloop
from rich.console import Console

import shared.quiet_grpc  # noqa: F401  # isort: split
from cloud.observability import logs
from cloud.serving.process import Running, serving
from cloud.settings import Settings
from shared.errors import TaperError


async def work(settings: Settings) -> None:
    """Serve until SIGTERM, or until the supervisor is gone."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with serving(settings, shared_port=True) as running:
        try:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        except BrokenPipeError:  # the supervisor is gone already
            return
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        answering = asyncio.create_task(answer(reader, running, stop))
        await stop.wait()
        answering.cancel()


async def answer(reader: asyncio.StreamReader, running: Running, stop: asyncio.Event) -> None:
    """Give the numbers whenever a line asks for them; the end of input ends the worker."""
    while line := await reader.readline():
        sys.stdout.write(json.dumps([int(line), running.snapshot().to_json()]) + "\n")
        sys.stdout.flush()
    stop.set()


def main() -> None:
    """Run the worker."""
    settings = Settings.model_validate_json(sys.argv[1])
    logs.set_up(settings.log_format, settings.log_level)
    try:
        uvloop.run(work(settings))
    except* TaperError as group:
        Console(stderr=True).print(f"error: {group.exceptions[0]}", markup=False, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
