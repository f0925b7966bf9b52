"""Samples that wait for each other, within a time budget, to share the cost of one packet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from device.policy.simple import Decision
from device.split.pipeline import Features, Pipeline, stack
from device.transport.link import Link
from shared.errors import LinkError
from shared.protocol.messages import Answer, Response


@dataclass(frozen=True)
class CloudAnswer:
    """The cloud's answer to one sample; ``payload_bytes`` is its share of what was sent."""

    answer: Answer
    response: Response
    payload_bytes: int
    encode_s: float


class Route(NamedTuple):
    """What samples of one request have in common.

    ``stop_when_away`` belongs to it: a sample that may wait for the cloud to come back must not
    be given up because it travels with one that may not.
    """

    pipeline: Pipeline
    level: int
    stop_when_away: bool


@dataclass
class _Group:
    """Samples of one route that wait for more."""

    samples: list[Features] = field(default_factory=list)
    answers: list[asyncio.Future[CloudAnswer]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Coalescer:
    """Sends samples over ``link``, together where they may wait for each other."""

    def __init__(self, link: Link, top_k: int) -> None:
        self._link = link
        self._top_k = max(top_k, 1)  # the best candidate has the confidence of the answer
        self._groups: dict[Route, _Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, route: Route, features: Features, decision: Decision) -> CloudAnswer:
        """The cloud's answer to packed bits (1, bytes), which are sent within the wait decided."""
        if decision.wait_s <= 0 or decision.batch <= 1:
            return (await self._exchange(route, [features]))[0]
        loop = asyncio.get_running_loop()
        group = self._groups.get(route)
        if group is None:
            group = self._groups[route] = _Group()
            group.timer = loop.call_later(decision.wait_s, self._flush, route)
        answer: asyncio.Future[CloudAnswer] = loop.create_future()
        group.samples.append(features)
        group.answers.append(answer)
        if len(group.samples) >= decision.batch:
            self._flush(route)
        return await answer

    def flush(self) -> None:
        """Send everything that waits now."""
        for route in list(self._groups):
            self._flush(route)

    async def close(self) -> None:
        """Give up all requests that have no answer yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for group in self._groups.values():
            if group.timer is not None:
                group.timer.cancel()
            for answer in group.answers:
                answer.cancel()
        self._groups.clear()

    def _flush(self, route: Route) -> None:
        group = self._groups.pop(route, None)
        if group is None:
            return
        if group.timer is not None:
            group.timer.cancel()
        task = asyncio.create_task(self._deliver(route, group), name="coalesced request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, route: Route, group: _Group) -> None:
        try:
            answers = await self._exchange(route, group.samples)
        except BaseException as error:
            for answer in group.answers:
                if not answer.done():
                    answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for answer, one in zip(group.answers, answers, strict=True):
                if not answer.done():
                    answer.set_result(one)

    async def _exchange(self, route: Route, samples: Sequence[Features]) -> list[CloudAnswer]:
        pipeline = route.pipeline
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        frame = pipeline.encode(stack(samples), route.level)
        encode_s = loop.time() - started_s
        response = await self._link.infer(
            frame, self._top_k, pipeline.identity, route.stop_when_away
        )
        check_response(response, len(samples), pipeline)
        share = round(len(frame.payload) / len(samples))
        return [CloudAnswer(answer, response, share, encode_s) for answer in response.answers]


def check_response(response: Response, samples: int, pipeline: Pipeline) -> None:
    """Raise ``LinkError`` unless ``response`` fits the model and has ``samples`` answers."""
    architecture = pipeline.architecture
    fits = len(response.answers) == samples
    for answer in response.answers:
        fits = fits and answer.label < architecture.classes
    if not fits or response.cloud_level >= len(architecture.cloud_levels):
        raise LinkError("server: its answer does not fit the model")
