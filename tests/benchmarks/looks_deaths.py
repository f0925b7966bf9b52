"""Second looks while the server is killed again and again; every sample must get one answer."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device import ClientSettings, LateAnswer, SplitClient, SpoolSettings
from device.policy.simple import Policy
from shared.model.bundle import Bundle
from tests.support.clouds import free_port
from tests.support.processes import Server, start_server

IN_FLIGHT = 16
DRAIN_S = 120.0


async def deaths(
    bundle: Bundle, images: npt.NDArray[np.uint8], policy: Policy, kills: int
) -> tuple[int, int, dict[str, Any]]:
    """Return samples without an answer of the cloud, samples with two, and further counts.

    The server is killed and restarted ``kills`` times, after equal numbers of answered samples.
    """
    port, name = free_port(), bundle.metadata.name
    late: Counter[int] = Counter()

    def on_late(answer: LateAnswer) -> None:
        late[answer.number] += 1

    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:

        def start() -> Server:
            return servers.enter_context(start_server("--model", name, port=port))

        server = await asyncio.to_thread(start)
        settings = ClientSettings(
            servers=(server.address,), spool=SpoolSettings(Path(folder) / "spool.db")
        )
        async with SplitClient(settings, bundle=bundle, policy=policy, on_late=on_late) as client:
            answered: Counter[str] = Counter()
            kept: list[int] = []
            coming = iter(enumerate(images))

            async def work() -> None:
                for index, image in coming:
                    # Otherwise the exit head would answer thousands of samples before the server is
                    # back.
                    await _until(lambda: not client.link.away)
                    result = await client.classify(image, index)
                    answered["samples"] += 1
                    answered["second looks"] += len(result.looks) - 1
                    answered["first looks"] += result.first_look
                    if result.kept and result.number is not None:
                        kept.append(result.number)
                    else:
                        answered["by the cloud"] += 1

            async def kill() -> None:
                nonlocal server
                for turn in range(kills):
                    due = (turn + 1) * len(images) // (kills + 1)
                    await _until(lambda due=due: answered["samples"] >= due)  # type: ignore[misc]
                    server.process.kill()
                    server.process.wait()
                    server = await asyncio.to_thread(start)
                    answered["deaths"] += 1
                    await _until(lambda: not client.link.away)

            killer = asyncio.create_task(kill())
            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
            await killer
            waiting = await client.drain(DRAIN_S)
    without = len(images) - answered["by the cloud"] - len(set(kept) & set(late))
    twice = sum(count - 1 for count in late.values()) + len(set(late) - set(kept))
    seen = {**answered, "late": sum(late.values()), "waiting": waiting, "kept": len(kept)}
    return without, twice, seen


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)
