"""Samples that wait for each other, within a time budget, to share the cost of one packet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from device.policy.simple import Decision
from device.split.asks import Asks
from device.split.pipeline import Features, Pipeline, stack
from device.transport.link import Link, Ticket
from shared.errors import LinkError, TaperError
from shared.protocol.messages import Answer, Looks, Response

Image = npt.NDArray[np.uint8]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CloudAnswer:
    """The cloud's answer to one sample.

    level          device level of the look that it answers
    payload_bytes  its share of what was sent, over all looks; so are encode_s and cloud_us
    again          level of the second look, if there was one, and device_s its computing
    first_look     whether this is the answer to the first look since the second got none
    """

    answer: Answer
    response: Response
    level: int
    payload_bytes: int
    encode_s: float
    cloud_us: int
    again: tuple[int, ...] = ()
    device_s: float = 0.0
    first_look: bool = False


class Shot(NamedTuple):
    """One sample: packed bits (1, bytes), and its image if there may be a second look."""

    features: Features
    image: Image | None


class Route(NamedTuple):
    """What samples of one request have in common.

    ``stop_when_away`` belongs to it: a sample that may wait for the cloud to come back must not
    be given up because it travels with one that may not. ``looks`` is what the server is told of a
    second look, of which ``expected`` is the share that the plan expects.
    """

    pipeline: Pipeline
    level: int
    stop_when_away: bool
    looks: Looks | None = None
    expected: float | None = None


@dataclass
class _Group:
    """Samples of one route that wait for more."""

    shots: list[Shot] = field(default_factory=list)
    answers: list[asyncio.Future[CloudAnswer]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Coalescer:
    """Sends samples over ``link``, together where they may wait for each other."""

    def __init__(self, link: Link, top_k: int) -> None:
        self._link = link
        self._top_k = max(top_k, 1)  # the best candidate has the confidence of the answer
        self.asks = Asks()
        self._groups: dict[Route, _Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(
        self, route: Route, features: Features, decision: Decision, image: Image | None = None
    ) -> CloudAnswer:
        """The cloud's answer to packed bits (1, bytes), which are sent within the wait decided.

        ``image`` is what a second look needs.
        """
        shot = Shot(features, image)
        if decision.wait_s <= 0 or decision.batch <= 1:
            found: list[CloudAnswer] = []
            await self._exchange(route, [shot], lambda _, one: found.append(one))
            return found[0]
        loop = asyncio.get_running_loop()
        group = self._groups.get(route)
        if group is None:
            group = self._groups[route] = _Group()
            group.timer = loop.call_later(decision.wait_s, self._flush, route)
        answer: asyncio.Future[CloudAnswer] = loop.create_future()
        group.shots.append(shot)
        group.answers.append(answer)
        if len(group.shots) >= decision.batch:
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
        def answered(place: int, one: CloudAnswer) -> None:
            if not group.answers[place].done():
                group.answers[place].set_result(one)

        try:
            await self._exchange(route, group.shots, answered)
        except BaseException as error:
            for answer in group.answers:
                if not answer.done():
                    answer.set_exception(error)
            if not isinstance(error, Exception):
                raise

    async def _exchange(
        self, route: Route, shots: Sequence[Shot], answered: Callable[[int, CloudAnswer], None]
    ) -> None:
        """Give ``answered`` the place and the answer of every sample.

        Those of which the cloud is sure come first. The others are looked at again, all of them in
        one request, within the deadline of the first.
        """
        ticket = self._link.ticket()
        first, asked = await self._look(route, [shot.features for shot in shots], ticket)
        for place, one in enumerate(first):
            if place not in asked:
                answered(place, one)
        if asked and route.looks is not None:
            pairs = [(shots[place], first[place]) for place in asked]
            again = await self._look_again(route, route.looks.next_level, pairs, ticket)
            for place, one in zip(asked, again, strict=True):
                answered(place, one)

    async def _look_again(
        self, route: Route, level: int, pairs: Sequence[tuple[Shot, CloudAnswer]], ticket: Ticket
    ) -> list[CloudAnswer]:
        """The answers to second looks, or the first ones if those get none."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        features = [
            route.pipeline.run(shot.image, level) for shot, _ in pairs if shot.image is not None
        ]
        device_s = (loop.time() - began_s) / len(pairs)
        # With an answer in hand nobody waits for a server that is away.
        wider = Route(route.pipeline, level, stop_when_away=True, looks=Looks(earlier=1))
        try:
            second, _ = await self._look(wider, features, ticket)
        except TaperError as error:
            self.asks.unanswered += len(pairs)
            _log.debug("no second look: %s", error)
            return [
                replace(one, again=(level,), device_s=device_s, first_look=True) for _, one in pairs
            ]
        return [
            replace(
                two,
                payload_bytes=one.payload_bytes + two.payload_bytes,
                encode_s=one.encode_s + two.encode_s,
                cloud_us=one.cloud_us + two.cloud_us,
                again=(level,),
                device_s=device_s,
            )
            for (_, one), two in zip(pairs, second, strict=True)
        ]

    async def _look(
        self, route: Route, samples: Sequence[Features], ticket: Ticket
    ) -> tuple[list[CloudAnswer], tuple[int, ...]]:
        """The answers to one look at samples, and the places of those to look at again."""
        pipeline = route.pipeline
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        frame = pipeline.encode(stack(samples), route.level)
        encode_s = loop.time() - started_s
        response = await self._link.infer(
            frame, self._top_k, pipeline.identity, route.stop_when_away, ticket, route.looks
        )
        check_response(response, len(samples), pipeline)
        asked = self.asks.follow(response.more, route.looks, len(samples), route.expected)
        share = round(len(frame.payload) / len(samples))
        cloud_us = response.queue_us + response.compute_us
        answers = [
            CloudAnswer(answer, response, route.level, share, encode_s, cloud_us)
            for answer in response.answers
        ]
        return answers, asked


def check_response(response: Response, samples: int, pipeline: Pipeline) -> None:
    """Raise ``LinkError`` unless ``response`` fits the model and has ``samples`` answers."""
    architecture = pipeline.architecture
    fits = len(response.answers) == samples
    for answer in response.answers:
        fits = fits and answer.label < architecture.classes
    if not fits or response.cloud_level >= len(architecture.cloud_levels):
        raise LinkError("server: its answer does not fit the model")
