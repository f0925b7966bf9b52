"""Let samples wait for each other, within a time limit, to share the cost of one packet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from device.policy.simple import Decision
from device.split.look_requests import LookRequests
from device.split.pipeline import Features, Pipeline, stack
from device.transport.link import Link, Ticket
from shared.errors import LinkError, TaperError
from shared.protocol.messages import Answer, Looks, Response

Image = npt.NDArray[np.uint8]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CloudAnswer:
    """The cloud's answer to one sample.

    level          device level of the answered look
    payload_bytes  its share of the bytes sent for all looks; likewise encode_s and cloud_us
    again          level of the second look, if there was one
    device_s       seconds of computing the second look
    first_look     whether this answers the first look because the second got no answer
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
    """A sample: packed bits (1, bytes), and its image if there may be a second look."""

    features: Features
    image: Image | None


class Route(NamedTuple):
    """The properties that samples must share to be sent in one request.

    stop_when_away  give up when the cloud is away; part of the route so that samples which can wait
                    for the cloud are not given up together with samples that cannot
    looks           the request's field about second looks
    expected        share of second looks that the plan expects; None if unknown
    """

    pipeline: Pipeline
    level: int
    stop_when_away: bool
    looks: Looks | None = None
    expected: float | None = None


@dataclass
class _Group:
    """Samples of one route that wait for others."""

    shots: list[Shot] = field(default_factory=list)
    answers: list[asyncio.Future[CloudAnswer]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Coalescer:
    """Sends samples over ``link``, coalescing those that may wait for each other."""

    def __init__(self, link: Link, top_k: int) -> None:
        self._link = link
        self._top_k = max(top_k, 1)  # at least 1, as the best candidate has the confidence
        self.look_requests = LookRequests()
        self._groups: dict[Route, _Group] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(
        self, route: Route, features: Features, decision: Decision, image: Image | None = None
    ) -> CloudAnswer:
        """Send packed bits (1, bytes) within ``decision.wait_s``, and return the cloud's answer.

        ``image`` (H, W, C) is needed for a second look; None: there is none. Raises ``LinkError``
        or ``RequestError``.
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
        """Send all waiting samples now."""
        for route in list(self._groups):
            self._flush(route)

    async def close(self) -> None:
        """Cancel all requests that have no answer yet."""
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
        """Send ``shots`` and call ``answered`` with the index and answer of each.

        Samples of which the cloud is sure are answered first. The others get a second look, all in
        one request and within the deadline of the first.
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
        """Return the answers to second looks, or those to the first looks if there are none."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        features = [
            route.pipeline.run(shot.image, level) for shot, _ in pairs if shot.image is not None
        ]
        device_s = (loop.time() - began_s) / len(pairs)
        # Since there is an answer already, do not wait for a server that is away.
        wider = Route(route.pipeline, level, stop_when_away=True, looks=Looks(earlier=1))
        try:
            second, _ = await self._look(wider, features, ticket)
        except TaperError as error:
            self.look_requests.unanswered += len(pairs)
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
        """Return the answers to one look at ``samples``, and the indices of those to look
        at again.
        """
        pipeline = route.pipeline
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        frame = pipeline.encode(stack(samples), route.level)
        encode_s = loop.time() - started_s
        response = await self._link.infer(
            frame, self._top_k, pipeline.identity, route.stop_when_away, ticket, route.looks
        )
        check_response(response, len(samples), pipeline)
        asked = self.look_requests.follow(response.more, route.looks, len(samples), route.expected)
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
