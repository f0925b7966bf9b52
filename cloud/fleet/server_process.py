"""The cloud server as a child process, so that a scenario can stop and start it."""

from __future__ import annotations

import asyncio
import sys
from typing import Self

from shared.errors import UsageError

START_S = 60.0


class ServerProcess:
    """``python -m cloud.server`` at ``address`` (HOST:PORT). Use as ``async with``."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        if not self._host or not self._port.isdigit():
            raise UsageError(f"--serve: {address!r} is not allowed; give HOST:PORT")
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cloud.server", "--host", self._host, "--port", self._port,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101 - PIPE, above
        async with asyncio.timeout(START_S):
            line = await self._process.stdout.readline()
        if not line.startswith(b"listening on "):
            raise UsageError(f"--serve: {self._host}:{self._port}: the server does not start")

    async def stop(self) -> None:
        """Kill the server without letting it drain."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
