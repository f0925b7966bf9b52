"""10,000 samples through a real client while its real server is killed and started again.

Every sample must be answered (none lost), with the answer of the network (none wrong), and only
once by the cloud (none twice): at once, or later from the spool.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device import ClientSettings, SplitClient
from device.split.outbox import LateAnswer
from device.split.settings import ModelSettings, SpoolSettings
from shared.data.sample import sample_digits
from shared.errors import SpooledError
from shared.model.bundle import Bundle
from shared.packed import CloudHalf, DeviceHalf
from tests.support.processes import ROOT

SAMPLES = 10_000
KILLS = 20
IN_FLIGHT = 32
FRACTION = "0.5"
PAUSE_S = 0.25  # between samples during an outage, so that most remain for the server
WORKED = 250  # number of the cloud's answers between a start and the next kill


@dataclass
class Tally:
    """The answers: those of the cloud by sample, those of the device, and the samples in
    the spool.
    """

    cloud: dict[int, tuple[int, float]] = field(default_factory=dict)
    device: dict[int, int] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)  # number in the spool -> sample
    late: list[LateAnswer] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Return the number of samples that the client has finished."""
        return len(self.cloud) + len(self.kept)

    @property
    def confirmed(self) -> int:
        """Return the number of answers of the cloud, at once or late."""
        return len(self.cloud) + len(self.late)


class KilledServer:
    """A server process on one port, which can be killed and started again."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._port = 0
        self.kills = 0

    @property
    def address(self) -> str:
        """Return the server's address."""
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start the server and wait until it listens."""
        command = [sys.executable, "-m", "cloud.server", "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "--model", self._model]
        self._process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        stdout = self._process.stdout
        line = (await stdout.readline()).decode() if stdout else ""
        if not line.startswith("listening on "):
            raise RuntimeError(f"the server did not start: {line!r}")
        self._port = int(line.rsplit(":", 1)[1])

    async def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self._process.kill()
        await self._process.wait()
        self.kills += 1


async def endure(model: str, bundle: Bundle) -> dict[str, Any]:
    """Run the test; return ``kill_lost``, ``kill_wrong``, ``kill_twice`` and further counts."""
    digits = np.ascontiguousarray(sample_digits()[0][..., None])
    # The server needs a CPU beside the client's, to which a benchmark may have pinned this process.
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    tally = Tally()
    server = KilledServer(model)
    await server.start()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        settings = ClientSettings(
            servers=(server.address,),
            model=ModelSettings(model),
            fraction=FRACTION,
            use_exit=False,
            timeout_s=30.0,
            spool=SpoolSettings(Path(folder) / "spool.db", SAMPLES),
        )
        try:
            async with SplitClient(settings, on_late=tally.late.append) as client:
                killer = asyncio.create_task(kill_at_times(server, tally))
                await classify_all(client, digits, tally)
                await killer
                left = await client.drain(60.0)
                connections = client.link.connections
        finally:
            await server.kill()
            os.sched_setaffinity(0, cpus)
    expected = Expected(bundle, digits)
    late = {answer.number for answer in tally.late}
    lost = SAMPLES - len(tally.cloud) - len(late & set(tally.kept))
    twice = len(tally.late) - len(late) + len(late - set(tally.kept))
    wrong = sum(not expected.cloud_says(i, label, c) for i, (label, c) in tally.cloud.items())
    wrong += sum(not expected.device_says(i, label) for i, label in tally.device.items())
    wrong += sum(
        not expected.cloud_says(tally.kept[a.number], a.label, expected.fractions[a.cloud_level])
        for a in tally.late
        if a.number in tally.kept
    )
    return {
        "kill_lost": lost,
        "kill_wrong": wrong,
        "kill_twice": twice,
        "kills": server.kills - 1,
        "samples": SAMPLES,
        "answered_by_cloud": len(tally.cloud),
        "answered_by_device": len(tally.device),
        "late_answers": len(tally.late),
        "left_in_spool": left,
        "connections": connections,
        "seconds": round(time.monotonic() - begin, 1),
    }


async def classify_all(client: SplitClient, digits: npt.NDArray[np.uint8], tally: Tally) -> None:
    """Classify all samples, ``IN_FLIGHT`` at a time."""
    todo = iter(range(SAMPLES))

    async def work() -> None:
        for index in todo:
            try:
                result = await client.classify(digits[index % len(digits)], index)
            except SpooledError as error:
                if error.number is not None:
                    tally.kept[error.number] = index
                await asyncio.sleep(PAUSE_S)
                continue
            if result.source == "cloud":
                tally.cloud[index] = (result.label, result.cloud_fraction)
            else:
                tally.device[index] = result.label
                if result.number is not None:
                    tally.kept[result.number] = index
                await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())


async def kill_at_times(server: KilledServer, tally: Tally) -> None:
    """Kill the server again and again with requests under way, and start it again each time."""
    for _ in range(KILLS):
        # The next kill comes when the server is answering again.
        goal = tally.confirmed + WORKED
        while tally.confirmed < goal and tally.done < SAMPLES:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.002)
        await server.kill()
        await server.start()


class Expected:
    """The right answers for every digit, computed in this process."""

    def __init__(self, bundle: Bundle, digits: npt.NDArray[np.uint8]) -> None:
        architecture = bundle.architecture
        self.fractions = architecture.cloud_levels
        level = architecture.device_levels.index(float(FRACTION))
        device, cloud = DeviceHalf(bundle), CloudHalf(bundle)
        features = device.run(digits, level)
        self._count = len(digits)
        self._cloud = {
            fraction: cloud.run(features, level, index).argmax(axis=1)
            for index, fraction in enumerate(self.fractions)
        }
        self._exit = None
        if architecture.exit_head:
            self._exit = device.exit_logits(features, level).argmax(axis=1)

    def cloud_says(self, sample: int, label: int, fraction: float) -> bool:
        """Return whether ``label`` is the network's answer at the cloud's ``fraction``."""
        return bool(self._cloud[fraction][sample % self._count] == label)

    def device_says(self, sample: int, label: int) -> bool:
        """Return whether ``label`` is the exit head's answer."""
        return self._exit is not None and bool(self._exit[sample % self._count] == label)
