"""Second looks of the client: one answer a sample, whatever becomes of the second one."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from device import ClientSettings, SplitClient
from device.policy.simple import Decision, Look, Situation
from device.split.outbox import LateAnswer
from device.split.sample import SampleResult
from device.split.settings import SpoolSettings
from device.split.spool import Spool
from shared.model.exits import NEVER
from shared.packed import CloudHalf, DeviceHalf
from shared.protocol.looks import margins
from shared.protocol.messages import Failure, More, Request, Response
from tests.support.clouds import Cloud, free_port, images, serve, tiny_bundle, until

BUNDLE = tiny_bundle()
PICTURES = images(60)
NARROW, WIDE = 0, 2


def labels_at(level: int) -> list[int]:
    found: list[int] = logits_at(level).argmax(axis=1).tolist()
    return found


def logits_at(level: int) -> Any:
    return CloudHalf(BUNDLE).run(DeviceHalf(BUNDLE).run(PICTURES, level), level, 1)


MARGINS = margins(logits_at(NARROW))
ASK_BELOW = int(np.median(MARGINS))
ASKED = [bool(margin < ASK_BELOW) for margin in MARGINS]


@dataclass(frozen=True)
class Plan:
    """Two looks, whatever the situation."""

    ask_below: int | None = ASK_BELOW
    escalate_below: float = 0.0
    exit_threshold: float = NEVER
    wait_s: float = 0.0
    asked: float | None = None

    def decide(self, _: Situation) -> Decision:
        first = Look(NARROW, self.exit_threshold, self.escalate_below, self.ask_below)
        looks = (first, Look(WIDE, NEVER))
        return Decision(looks, self.wait_s, 64 if self.wait_s else 1, self.asked)


def settings(*servers: str, **changes: Any) -> ClientSettings:
    return replace(ClientSettings(servers=servers, wait_s=30.0, timeout_s=30.0), **changes)


async def classify(
    cloud: Cloud, plan: Plan | None = None, **changes: Any
) -> tuple[list[SampleResult], SplitClient]:
    """Results of all pictures, at the same time."""
    async with serve(cloud) as address:
        chosen = settings(address, **changes)
        async with SplitClient(chosen, bundle=BUNDLE, policy=plan or Plan()) as client:
            results = await asyncio.gather(*(client.classify(p, i) for i, p in enumerate(PICTURES)))
    return list(results), client


def expected() -> list[int]:
    first, second = labels_at(NARROW), labels_at(WIDE)
    return [second[i] if asked else first[i] for i, asked in enumerate(ASKED)]


@pytest.mark.parametrize("wait_s", [0.0, 0.05])
async def test_samples_of_which_the_cloud_is_not_sure_are_looked_at_again(wait_s: float) -> None:
    cloud = Cloud(BUNDLE)
    results, client = await classify(cloud, Plan(wait_s=wait_s))
    assert [result.label for result in results] == expected()
    for result, asked in zip(results, ASKED, strict=True):
        assert result.looks == ((0.25, 1.0) if asked else (0.25,))
        assert result.fraction == (1.0 if asked else 0.25)
        assert result.requests == len(result.looks)
        assert not result.first_look
    by_id: dict[int, list[Request]] = {}
    for request in cloud.seen:
        by_id.setdefault(request.id, []).append(request)
    for first, *later in by_id.values():
        assert (first.frame.level, first.looks and first.looks.next_level) == (NARROW, WIDE)
        assert len(later) <= 1
        for second in later:
            assert (second.frame.level, second.looks and second.looks.earlier) == (WIDE, 1)
    samples = Counter[int]()
    for request in cloud.seen:
        samples[request.frame.level] += request.frame.samples
    assert samples == {NARROW: 60, WIDE: sum(ASKED)}
    assert client.refused_looks == {}


async def test_both_looks_count_in_bytes_and_times() -> None:
    results, _ = await classify(Cloud(BUNDLE))
    size = {level: BUNDLE.architecture.sent_shape(level).packed_bytes for level in (NARROW, WIDE)}
    for result, asked in zip(results, ASKED, strict=True):
        assert result.payload_bytes == size[NARROW] + (size[WIDE] if asked else 0)
        assert result.latency_ms >= result.device_ms + result.encode_ms


async def test_a_second_look_without_an_answer_leaves_the_first() -> None:
    async def respond(request: Request) -> Response | None:
        if request.looks is not None and request.looks.earlier:
            await asyncio.Event().wait()
        return None

    # One sample at a time: the server that never answers holds up the stream behind it.
    place = ASKED.index(True)
    cloud = Cloud(BUNDLE, respond)
    async with (
        serve(cloud) as address,
        SplitClient(settings(address, timeout_s=3.0), bundle=BUNDLE, policy=Plan()) as client,
    ):
        await client.classify(PICTURES[ASKED.index(False)])  # whatever is slow at first
        result = await client.classify(PICTURES[place])
    assert result.first_look
    assert (result.source, result.label) == ("cloud", labels_at(NARROW)[place])
    assert (result.fraction, result.looks) == (0.25, (0.25, 1.0))


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"])
async def test_a_second_look_that_is_refused_leaves_the_first(code: str) -> None:
    async def respond(request: Request) -> Response | None:
        if request.looks is not None and request.looks.earlier:
            failure = Failure(grpc.StatusCode[code].value[0], "another version")
            return Response(request.id, failure=failure)
        return None

    results, _ = await classify(Cloud(BUNDLE, respond))
    assert [result.label for result in results] == labels_at(NARROW)
    assert [result.first_look for result in results] == ASKED


async def test_a_server_that_was_replaced_answers_the_second_look() -> None:
    died: set[int] = set()

    async def respond(request: Request) -> Response | None:
        if request.looks is not None and request.looks.earlier and request.id not in died:
            died.add(request.id)
            raise ConnectionResetError  # ends the stream
        return None

    cloud = Cloud(BUNDLE, respond)
    async with (
        serve(cloud) as address,
        SplitClient(settings(address), bundle=BUNDLE, policy=Plan()) as client,
    ):
        results = [await client.classify(image) for image in PICTURES]
    assert len(died) == sum(ASKED)
    assert [result.label for result in results] == expected()
    assert cloud.streams > 1


async def test_a_sample_in_the_spool_is_confirmed_by_whichever_look_was_answered(
    tmp_path: Path,
) -> None:
    late: list[LateAnswer] = []
    path, port = tmp_path / "spool.db", free_port()

    async def respond(request: Request) -> Response | None:
        if request.looks is not None and request.looks.earlier and request.id % 2:
            failure = Failure(grpc.StatusCode.INVALID_ARGUMENT.value[0], "no")
            return Response(request.id, failure=failure)
        return None

    chosen = settings(f"127.0.0.1:{port}", spool=SpoolSettings(path))
    async with SplitClient(chosen, bundle=BUNDLE, policy=Plan(), on_late=late.append) as client:
        await until(lambda: client.link.away)
        kept = [await client.classify(image) for image in PICTURES[:10]]
        assert all(result.kept for result in kept)
        async with serve(Cloud(BUNDLE, respond), port):
            assert await client.drain(30.0) == 0
            answered = [await client.classify(image) for image in PICTURES[10:]]
            assert await client.drain(30.0) == 0
    assert not any(result.kept for result in answered)
    assert any(result.first_look for result in answered)
    assert Counter(answer.number for answer in late) == {r.number: 1 for r in kept}
    assert [answer.label for answer in late] == labels_at(NARROW)[:10]  # bits of first looks
    with Spool(path) as spool:
        assert spool.waiting() == 0


async def test_the_device_escalates_by_itself_where_its_exit_head_is_far_from_sure() -> None:
    cloud = Cloud(BUNDLE)
    results, _ = await classify(cloud, Plan(ask_below=0, escalate_below=0.6, exit_threshold=0.9))
    half = DeviceHalf(BUNDLE)
    exits = half.exit_logits(half.run(PICTURES, NARROW), NARROW)
    assert {request.frame.level for request in cloud.seen} == {NARROW, WIDE}
    for i, result in enumerate(results):
        if result.source == "device":
            assert result.label == exits[i].argmax()
            assert (result.exit_confidence or 0) >= 0.9
            continue
        escalated = result.looks == (0.25, 1.0)
        assert result.requests == 1
        assert result.label == labels_at(WIDE if escalated else NARROW)[i]
        if not escalated:
            assert 0.6 <= (result.exit_confidence or 0) < 0.9
    for request in cloud.seen:
        assert (request.looks is None) == (request.frame.level == WIDE)


@pytest.mark.parametrize(
    ("more", "reason"),
    [(More(7), "level"), (More(1), "level"), (More(WIDE, 0, (3,)), "samples")],
)
async def test_wishes_that_cannot_be_are_refused(
    more: More, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = Cloud(BUNDLE)

    async def respond(request: Request) -> Response | None:
        return cloud.answer(request)._replace(more=more)

    cloud.respond = respond
    results, client = await classify(cloud)
    assert [result.label for result in results] == labels_at(NARROW)
    assert len(cloud.seen) == len(PICTURES)
    assert client.refused_looks == {reason: len(PICTURES)}
    assert len(caplog.messages) == 1


async def test_a_server_that_always_asks_gets_two_looks_at_few_samples(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cloud = Cloud(BUNDLE)

    async def respond(request: Request) -> Response | None:
        return cloud.answer(request)._replace(more=More(WIDE))

    cloud.respond = respond
    plan = Plan(asked=0.0)
    async with (
        serve(cloud) as address,
        SplitClient(settings(address), bundle=BUNDLE, policy=plan) as client,
    ):
        results = [await client.classify(PICTURES[i % 60]) for i in range(300)]
        refused = client.refused_looks
    looks = sum(len(result.looks) for result in results)
    assert len(cloud.seen) == looks <= 300 + 32 + 0.25 * 300
    assert max(len(result.looks) for result in results) == 2
    # The second answers asked for a third look.
    assert refused["unasked"] == looks - 300
    assert refused["often"] == 600 - looks
    assert len(caplog.messages) == 2


async def test_one_look_says_nothing_of_looks() -> None:
    cloud = Cloud(BUNDLE)
    async with (
        serve(cloud) as address,
        SplitClient(settings(address, fraction="1.0", use_exit=False), bundle=BUNDLE) as client,
    ):
        result = await client.classify(PICTURES[0])
    assert [request.looks for request in cloud.seen] == [None]
    assert (result.looks, result.first_look) == ((1.0,), False)


async def test_two_fixed_fractions_leave_the_threshold_to_the_server() -> None:
    cloud = Cloud(BUNDLE)
    async with (
        serve(cloud) as address,
        SplitClient(settings(address, fraction="0.25:1", use_exit=False), bundle=BUNDLE) as client,
    ):
        await client.classify(PICTURES[0])
    looks = cloud.seen[0].looks
    assert looks is not None
    assert (looks.earlier, looks.next_level, looks.ask_below) == (0, WIDE, None)
