"""``--workers N``: several server processes on one port, with their metrics summed.

The kernel spreads connections over the workers (SO_REUSEPORT). The supervisor serves nothing itself
and replaces workers that die. To ask a worker for its metrics, it writes a line with a number to
the worker's standard input; the worker answers with one line of JSON that repeats the number. When
its standard input ends, a worker knows that the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from concurrent.futures import Future

import structlog

from cloud.access.security import certificates_of, tokens_of
from cloud.observability.exposition import exposed
from cloud.observability.metrics import Snapshot, merge, without_gauges
from cloud.serving.address import reserved
from cloud.serving.announcement import announce
from cloud.settings import ServerSettings
from shared.errors import UsageError

ANSWER_S = 2.0  # gauges leave out a worker that does not answer within this time
PING_S = 3.0  # how often a worker is asked whether it still answers
MISSED_PINGS = 2  # a worker that misses this many in a row is killed and replaced
KILL_AFTER_DRAIN_S = 5.0  # a worker that has not ended this long after its drain is killed
QUICK_S = 2.0  # workers that end sooner than this are replaced after a growing pause
LONGEST_PAUSE_S = 10.0
_log = structlog.stdlib.get_logger(__name__)


class WorkerProcess:
    """A worker process with its standard input and output."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        writer: asyncio.StreamWriter,
        reader: asyncio.StreamReader,
    ) -> None:
        self.process = process
        self._writer = writer
        self._reader = reader
        self._asking = asyncio.Lock()
        self._asked = 0
        self.last = Snapshot()

    async def ready(self) -> bool:
        """Wait until the worker listens; False if it ended before."""
        return (await self._reader.readline()).startswith(b"ready")

    async def snapshot(self) -> Snapshot:
        """Return the worker's metrics; if it does not answer, its last known counters."""
        return self.last if await self.answers() else without_gauges(self.last)

    async def answers(self) -> bool:
        """Ask for the metrics and keep them in ``last``; False if they do not arrive in time."""
        async with self._asking:
            try:
                async with asyncio.timeout(ANSWER_S):
                    if self._writer.is_closing():  # the worker has died
                        return False
                    self._asked += 1
                    self._writer.write(f"{self._asked}\n".encode())
                    await self._writer.drain()
                    number = 0
                    while number < self._asked:  # skip late answers to earlier questions
                        number, value = json.loads(await self._reader.readline())
                self.last = Snapshot(**value)
            except (TimeoutError, ConnectionError, ValueError):
                return False
        return True

    def stop(self) -> None:
        """Ask the worker to drain and end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """Kill the worker at once, even if it is stopped (SIGSTOP) or hangs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class Supervisor:
    """Keeps ``settings.workers`` worker processes running on ``port``."""

    def __init__(self, settings: ServerSettings, port: int) -> None:
        self._settings = settings.model_copy(update={"port": port, "workers": 1})
        self._count = settings.workers
        self._started: dict[int, WorkerProcess] = {}
        self._workers: dict[int, WorkerProcess] = {}  # those that listen, by place
        self._ended: list[Snapshot] = []  # counters of workers that have ended
        self._restarts = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Make ``run`` drain and end all workers."""
        self._stopping.set()

    async def run(self, all_ready: asyncio.Event) -> None:
        """Keep workers alive until ``stop``; ``UsageError`` if the first ones cannot start."""
        async with asyncio.TaskGroup() as group:
            kept = [
                group.create_task(self._keep(place, all_ready), name=f"worker {place}")
                for place in range(self._count)
            ]
            await self._stopping.wait()
            for worker in self._started.values():
                worker.stop()
            limit_s = self._settings.drain_seconds + KILL_AFTER_DRAIN_S
            _, hanging = await asyncio.wait(kept, timeout=limit_s)
            if hanging:
                _log.warning("workers did not end and are killed", workers=len(hanging))
                for worker in self._started.values():
                    worker.kill()

    async def snapshot(self) -> Snapshot:
        """Return the sum of the metrics of all workers, including those that have ended."""
        ended = list(self._ended)  # copied: a worker that ends meanwhile would count twice
        alive = await asyncio.gather(*(worker.snapshot() for worker in self._workers.values()))
        merged = merge([*ended, *alive])
        merged.counters["worker_restarts"] = self._restarts
        return merged

    async def _keep(self, place: int, all_ready: asyncio.Event) -> None:
        pause_s = 0.1
        while not self._stopping.is_set():
            began_s = time.monotonic()
            worker = await self._start()
            self._started[place] = worker
            if self._stopping.is_set():
                worker.stop()
            worked = await worker.ready()
            if worked:
                self._workers[place] = worker
            if len(self._workers) == self._count:
                all_ready.set()
            status = await self._ended_status(worker)
            self._workers.pop(place, None)
            self._ended = [merge([*self._ended, without_gauges(worker.last)])]
            if self._stopping.is_set():
                return
            if not worked and not all_ready.is_set():
                raise UsageError(f"--workers: a worker could not start (exit status {status})")
            self._restarts += 1
            _log.warning("a worker died and is replaced", status=status)
            lived_s = time.monotonic() - began_s
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if lived_s < QUICK_S else 0.1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _ended_status(self, worker: WorkerProcess) -> int:
        """Wait for a worker's end, killing it if it stops answering; returns its exit status."""
        ended = asyncio.ensure_future(worker.process.wait())
        missed = 0
        while not ended.done():
            await asyncio.wait((ended,), timeout=PING_S)
            if ended.done() or self._stopping.is_set():
                break
            missed = 0 if await worker.answers() else missed + 1
            if missed == MISSED_PINGS:
                _log.warning("a worker does not answer and is killed", pid=worker.process.pid)
                worker.kill()
        return await ended

    async def _start(self) -> WorkerProcess:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cloud.serving.worker", self._settings.model_dump_json()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**22,
            # So that Ctrl-C reaches only the supervisor, which lets the workers drain.
            start_new_session=True,
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("pipes were asked for")
        return WorkerProcess(process, process.stdin, process.stdout)


async def supervise(settings: ServerSettings) -> None:
    """Serve with several processes until SIGINT or SIGTERM."""
    tokens_of(settings)  # reports an unusable file once, not once for each worker
    certificates_of(settings)
    with reserved(settings.host, settings.port) as port:
        supervisor = Supervisor(settings, port)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)

        def take() -> Snapshot:
            asked: Future[Snapshot] = asyncio.run_coroutine_threadsafe(supervisor.snapshot(), loop)
            return asked.result(2 * ANSWER_S)

        ready = asyncio.Event()
        async with (
            exposed(take, settings.metrics_host, settings.metrics_port) as metrics_port,
            asyncio.TaskGroup() as group,
        ):
            running = group.create_task(supervisor.run(ready))
            announcing = group.create_task(_announce(settings, port, metrics_port, ready))
            await running
            announcing.cancel()


async def _announce(
    settings: ServerSettings, port: int, metrics_port: int | None, ready: asyncio.Event
) -> None:
    await ready.wait()
    announce(settings, port, metrics_port, settings.http_port)
