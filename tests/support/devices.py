"""Load by the real device library: clients that classify real digits, and their answers counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

from device import ClientSettings, SampleResult, SplitClient
from device.split.settings import ModelSettings
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.errors import TaperError
from shared.fractions import level_for
from shared.model.bundle import read_bundle
from shared.packed import CloudHalf, DeviceHalf
from tests.support.clouds import until

MODEL = "mnist-binary-paper"
FRACTION = "0.3"
CLOUD_FRACTION = "1.0"  # what servers under this load must pin, so that every answer is known
SERVED = ("--model", MODEL, "--cloud-fraction", CLOUD_FRACTION)


@cache
def expected() -> tuple[int, ...]:
    """The label that the whole network gives to each digit of the sample."""
    bundle = read_bundle(bundle_path(MODEL))
    levels = bundle.architecture.device_levels, bundle.architecture.cloud_levels
    images, _ = sample_digits()
    level = level_for(float(FRACTION), levels[0])
    features = DeviceHalf(bundle).run(images[..., None], level)
    logits = CloudHalf(bundle).run(features, level, level_for(float(CLOUD_FRACTION), levels[1]))
    return tuple(int(label) for label in logits.argmax(axis=1))


@dataclass
class Tally:
    """The outcome of the samples; ``answers[n]`` is how often sample n was answered."""

    answers: list[int] = field(default_factory=list)
    wrong: int = 0
    failures: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return len(self.answers)

    @property
    def answered(self) -> int:
        return sum(self.answers)

    @property
    def right(self) -> bool:
        """Whether every sample has exactly one answer, which is the network's."""
        once = all(count == 1 for count in self.answers)
        return bool(self.answers) and once and not self.wrong and not self.failures

    def take(self, number: int, result: SampleResult) -> None:
        """Count the answer to sample ``number``."""
        self.answers[number] += 1
        self.wrong += result.label != expected()[result.index] or result.source != "cloud"
        self.latencies_s.append(result.latency_ms / 1000)


async def classify_on(
    client: SplitClient, tally: Tally, stop: asyncio.Event, pause_s: float = 0.0
) -> None:
    """Classify digit after digit until ``stop`` is set; the last one is answered too.

    ``pause_s`` lies between an answer and the next sample.
    """
    images, _ = sample_digits()
    while not stop.is_set():
        number = tally.asked
        tally.answers.append(0)
        index = number % len(images)
        try:
            tally.take(number, await client.classify(images[index][..., None], index))
        except TaperError as error:
            tally.failures.append(f"{type(error).__name__}: {error}")
        if pause_s:
            await asyncio.sleep(pause_s)


@asynccontextmanager
async def load(
    *servers: str,
    devices: int = 6,
    timeout_s: float = 20.0,
    pause_s: float = 0.0,
    tally: Tally | None = None,
) -> AsyncIterator[Tally]:
    """Devices that classify while the block runs, one sample at a time each, with pauses."""
    settings = ClientSettings(
        servers=servers,
        model=ModelSettings(name=MODEL),
        fraction=FRACTION,
        use_exit=False,
        wait_s=timeout_s,
        timeout_s=timeout_s,
    )
    tally, stop = tally or Tally(), asyncio.Event()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(SplitClient(settings)) for _ in range(devices)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(classify_on(client, tally, stop, pause_s))
            try:
                yield tally
            finally:
                stop.set()


async def progress(tally: Tally, more: int, limit_s: float = 60.0) -> None:
    """Wait until ``more`` samples were answered."""
    target = tally.answered + more
    await until(lambda: tally.answered >= target, limit_s)
