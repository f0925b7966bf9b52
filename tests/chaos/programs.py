"""Programs that are killed and come back, as a process supervisor brings them back."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.support.processes import ROOT, START_SECONDS, STOP_SECONDS, environment

PAUSE_S = 0.2  # from the end of a program to its next start


class Program:
    """A command that is started again whenever it ends. ``said`` is a word of its first good line.

    A program without such a line (``said`` empty) is up as soon as ``port`` accepts connections.
    """

    def __init__(self, command: Sequence[str], log: Path, said: str = "", port: int = 0) -> None:
        self._command = command
        self._log = log
        self._said = said
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self.up = asyncio.Event()
        self.starts = 0

    async def keep(self) -> None:
        """Start it, and again when it ends, until cancelled; ended with SIGTERM then."""
        try:
            while True:
                await self._may_run.wait()
                await self._run()
                self.up.clear()
                await asyncio.sleep(PAUSE_S)
        finally:
            await self._end()

    async def kill(self, seconds: float) -> None:
        """End it as a power cut would, and keep it dead for ``seconds``."""
        await self.hold(signal.SIGKILL)
        await asyncio.sleep(seconds)
        self.release()

    async def hold(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and keep it down until ``release``."""
        self._may_run.clear()
        self.up.clear()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
            await self._process.wait()
        self.up.clear()

    def release(self) -> None:
        """Let it start again."""
        self._may_run.set()

    async def _run(self) -> None:
        with self._log.open("ab") as log:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command, cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )  # fmt: skip
        self.starts += 1
        listening = asyncio.create_task(self._listen()) if self._port else None
        assert process.stdout is not None
        async for line in process.stdout:
            if self._said and self._said in line.decode():
                self.up.set()
        if listening is not None:
            listening.cancel()
        await process.wait()

    async def _listen(self) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            self.up.set()
            return

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def module(name: str, *flags: str) -> list[str]:
    """The words of ``python -m NAME``."""
    return [sys.executable, "-m", name, *flags]


@asynccontextmanager
async def kept(program: Program) -> AsyncIterator[Program]:
    """``program`` runs while the block does; it is up when the block begins."""
    task = asyncio.create_task(program.keep())
    try:
        await asyncio.wait_for(program.up.wait(), START_SECONDS)
        yield program
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
