"""Samples that wait for each other, within a time budget, to share the cost of one packet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from device.split.pipeline import Features, Pipeline, stack
from device.transport.link import Link
from shared.errors import LinkError
from shared.protocol.messages import Answer, Response


@dataclass(frozen=True)
class Delivered:
    """What came back for one sample; ``payload_bytes`` is its share of what was sent."""

    answer: Answer
    response: Response
    payload_bytes: int
    encode_s: float


@dataclass
class _Group:
    """Samples of one model and level that wait."""

    pipeline: Pipeline
    level: int
    samples: list[Features] = field(default_factory=list)
    waiting: list[asyncio.Future[Delivered]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Coalescer:
    """Sends samples over ``link``, together where they may wait for each other."""

    def __init__(self, link: Link, top_k: int) -> None:
        self._link = link
        self._top_k = top_k
        self._groups: dict[tuple[int, int], _Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(
        self,
        pipeline: Pipeline,
        features: Features,
        level: int,
        wait_s: float,
        batch: int,
        stop_when_away: bool,
    ) -> Delivered:
        """The cloud's answer to packed bits (1, bytes), sent within ``wait_s`` at the latest."""
        if wait_s <= 0 or batch <= 1:
            return (await self._exchange(pipeline, [features], level, stop_when_away))[0]
        loop = asyncio.get_running_loop()
        key = (id(pipeline), level)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(pipeline, level)
            group.timer = loop.call_later(wait_s, self._flush, key, stop_when_away)
        waiting: asyncio.Future[Delivered] = loop.create_future()
        group.samples.append(features)
        group.waiting.append(waiting)
        if len(group.samples) >= batch:
            self._flush(key, stop_when_away)
        return await waiting

    def flush(self) -> None:
        """Send everything that waits now."""
        for key in list(self._groups):
            self._flush(key, stop_when_away=True)

    def _flush(self, key: tuple[int, int], stop_when_away: bool) -> None:
        group = self._groups.pop(key, None)
        if group is None:
            return
        if group.timer is not None:
            group.timer.cancel()
        task = asyncio.create_task(self._deliver(group, stop_when_away), name="coalesced request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, group: _Group, stop_when_away: bool) -> None:
        try:
            delivered = await self._exchange(
                group.pipeline, group.samples, group.level, stop_when_away
            )
        except BaseException as error:
            for waiting in group.waiting:
                if not waiting.done():
                    waiting.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for waiting, one in zip(group.waiting, delivered, strict=True):
                if not waiting.done():
                    waiting.set_result(one)

    async def _exchange(
        self, pipeline: Pipeline, samples: list[Features], level: int, stop_when_away: bool
    ) -> list[Delivered]:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        frame = pipeline.encode(stack(samples), level)
        encode_s = loop.time() - started_s
        response = await self._link.infer(frame, self._top_k, pipeline.identity, stop_when_away)
        check_response(response, len(samples), pipeline)
        share = round(len(frame.payload) / len(samples))
        return [Delivered(answer, response, share, encode_s) for answer in response.answers]

    async def close(self) -> None:
        """Give up what is on its way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for group in self._groups.values():
            if group.timer is not None:
                group.timer.cancel()
            for waiting in group.waiting:
                waiting.cancel()
        self._groups.clear()


def check_response(response: Response, samples: int, pipeline: Pipeline) -> None:
    """Raise ``LinkError`` unless ``response`` fits the model and has ``samples`` answers."""
    architecture = pipeline.architecture
    fits = len(response.answers) == samples
    for answer in response.answers:
        fits = fits and answer.label < architecture.classes
    if not fits or response.cloud_level >= len(architecture.cloud_levels):
        raise LinkError("server: its answer does not fit the model")
