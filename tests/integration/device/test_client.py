"""The split client: local exits, outages, the spool, coalescing, models over the air."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from device import ClientSettings, SplitClient
from device.energy.battery import FixedBattery
from device.split.outbox import LateAnswer
from device.split.settings import SpoolSettings
from device.split.spool import Sample, Spool
from shared.errors import (
    LinkError,
    SpooledError,
    VersionMismatchError,
)
from shared.model.bundle import Bundle
from shared.packed import DeviceHalf
from shared.protocol.messages import Failure, Hints, Request, Response
from tests.support.clouds import Cloud, free_port, images, labels, serve, tiny_bundle, until

BUNDLE = tiny_bundle()
HEADLESS = tiny_bundle(exit_head=False)
PICTURES = images(60)


def settings(*servers: str, **changes: Any) -> ClientSettings:
    """ClientSettings for a test: the whole network, everything to the cloud, short times."""
    plain = ClientSettings(
        servers=servers, fraction="1.0", use_exit=False, wait_s=5.0, timeout_s=5.0
    )
    return replace(plain, **changes)


def expected_here(bundle: Bundle, level: int) -> list[int]:
    """What the exit head says of all pictures."""
    half = DeviceHalf(bundle)
    found: list[int] = half.exit_logits(half.run(PICTURES, level), level).argmax(axis=1).tolist()
    return found


async def test_answers_of_the_cloud() -> None:
    cloud = Cloud(BUNDLE)
    async with serve(cloud) as address, SplitClient(settings(address), bundle=BUNDLE) as client:
        results = [await client.classify(image, i) for i, image in enumerate(PICTURES)]
    assert [result.label for result in results] == labels(BUNDLE, cloud.seen)
    assert {result.source for result in results} == {"cloud"}
    assert [result.index for result in results] == list(range(60))
    assert all(result.latency_ms >= result.device_ms + result.encode_ms for result in results)
    assert cloud.streams == 1


async def test_wrong_shape_is_refused_here() -> None:
    async with (
        serve(Cloud(BUNDLE)) as address,
        SplitClient(settings(address), bundle=BUNDLE) as client,
    ):
        with pytest.raises(ValueError, match="images"):
            await client.classify(np.zeros((9, 8, 1), np.uint8))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
async def test_confident_samples_stay_on_the_device(threshold: float) -> None:
    cloud = Cloud(BUNDLE)
    chosen = settings("", use_exit=True, exit_threshold=threshold)
    here = expected_here(BUNDLE, 2)
    async with serve(cloud) as address:
        chosen = replace(chosen, servers=(address,))
        async with SplitClient(chosen, bundle=BUNDLE) as client:
            results = [await client.classify(image, i) for i, image in enumerate(PICTURES)]
    for result in results:
        assert (result.source == "device") == ((result.exit_confidence or 0) >= threshold)
        if result.source == "device":
            assert result.label == here[result.index]
            assert result.payload_bytes == 0
    assert len(cloud.seen) == sum(result.source == "cloud" for result in results)


async def test_default_threshold_is_the_bundles_and_no_head_is_no_exit() -> None:
    async with (
        serve(Cloud(BUNDLE)) as address,
        SplitClient(settings(address, use_exit=True), bundle=BUNDLE) as client,
    ):
        results = [await client.classify(image) for image in PICTURES]
    for result in results:
        assert (result.source == "device") == ((result.exit_confidence or 0) >= 0.9)
    async with serve(Cloud(HEADLESS)) as address:
        chosen = settings(address, use_exit=True, exit_threshold=0.0)
        async with SplitClient(chosen, bundle=HEADLESS) as client:
            assert (await client.classify(PICTURES[0])).source == "cloud"


async def test_outage_is_bridged_by_the_exit_head() -> None:
    port, cloud = free_port(), Cloud(BUNDLE)
    here = expected_here(BUNDLE, 2)
    async with serve(cloud, port) as address:
        client = await SplitClient(settings(address, top_k=2), bundle=BUNDLE).__aenter__()
        assert (await client.classify(PICTURES[0])).source == "cloud"
    await until(lambda: client.link.away)
    for index in range(5):
        result = await client.classify(PICTURES[index], index)
        assert (result.source, result.label) == ("device", here[index])
        assert result.confidence is not None
        assert result.candidates[0] == (result.label, result.confidence)
        assert len(result.candidates) == 2
    async with serve(cloud, port):
        await until(lambda: not client.link.away)
        assert (await client.classify(PICTURES[0])).source == "cloud"
    await client.__aexit__(None, None, None)


async def test_outage_without_head_or_spool_is_an_error() -> None:
    address = f"127.0.0.1:{free_port()}"
    chosen = settings(address, start_offline=True, timeout_s=0.3)
    async with SplitClient(chosen, bundle=HEADLESS) as client:
        with pytest.raises(LinkError, match=address):
            await client.classify(PICTURES[0])


@pytest.mark.parametrize("bundle", [BUNDLE, HEADLESS], ids=["exit head", "no exit head"])
async def test_spool_keeps_samples_through_an_outage(bundle: Bundle, tmp_path: Path) -> None:
    port, cloud = free_port(), Cloud(bundle)
    late: list[LateAnswer] = []
    chosen = settings(f"127.0.0.1:{port}", spool=SpoolSettings(tmp_path / "s.db"))
    async with SplitClient(chosen, bundle=bundle, on_late=late.append) as client:
        for index in range(10):
            if bundle.architecture.exit_head:
                result = await client.classify(PICTURES[index], index)
                assert (result.source, result.kept) == ("device", True)
            else:
                with pytest.raises(SpooledError, match="waits in the spool"):
                    await client.classify(PICTURES[index], index)
        async with serve(cloud, port):
            assert await client.drain(60.0) == 0
            assert client.late_answers == 10
    assert [answer.label for answer in late] == labels(bundle, cloud.seen)
    assert [answer.number for answer in late] == list(range(1, 11))


async def test_spool_outlives_the_process_and_nothing_confirmed_is_sent_again(
    tmp_path: Path,
) -> None:
    port, cloud = free_port(), Cloud(BUNDLE)
    chosen = settings(f"127.0.0.1:{port}", spool=SpoolSettings(tmp_path / "s.db"))
    async with SplitClient(chosen, bundle=BUNDLE) as client:
        for index in range(5):
            await client.classify(PICTURES[index], index)
    async with serve(cloud, port), SplitClient(chosen, bundle=BUNDLE) as client:
        assert (await client.classify(PICTURES[5], 5)).source == "cloud"
        assert await client.drain(60.0) == 0
    assert sum(request.frame.samples for request in cloud.seen) == 6
    async with serve(cloud, port), SplitClient(chosen, bundle=BUNDLE) as client:
        assert await client.drain(60.0) == 0
    assert sum(request.frame.samples for request in cloud.seen) == 6


async def test_full_spool_still_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = settings(f"127.0.0.1:{free_port()}", spool=SpoolSettings(tmp_path / "s.db", 3))
    with caplog.at_level(logging.WARNING):
        async with SplitClient(chosen, bundle=BUNDLE) as client:
            kept = [(await client.classify(image)).kept for image in PICTURES[:5]]
    assert kept == [True, True, True, False, False]
    assert caplog.text.count("new samples are not kept") == 1


def refusing(code: grpc.StatusCode) -> Callable[[Request], Any]:
    """Refuses every request with ``code``."""

    async def respond(request: Request) -> Response:
        return Response(request.id, failure=Failure(code.value[0], "not like this"))

    return respond


async def test_spooled_sample_that_no_server_takes_is_set_aside(tmp_path: Path) -> None:
    port = free_port()
    chosen = settings(f"127.0.0.1:{port}", spool=SpoolSettings(tmp_path / "s.db"))
    async with SplitClient(chosen, bundle=BUNDLE) as client:
        for image in PICTURES[:3]:
            await client.classify(image)
        async with serve(Cloud(BUNDLE, refusing(grpc.StatusCode.INVALID_ARGUMENT)), port):
            assert await client.drain(60.0) == 0
    with Spool(tmp_path / "s.db") as spool:
        assert len(spool.refused()) == 3
        assert "not like this" in spool.refused()[0][1]


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE])
async def test_spooled_samples_are_tried_again_after_a_fault_of_the_server(
    code: grpc.StatusCode, tmp_path: Path
) -> None:
    port = free_port()
    chosen = settings(f"127.0.0.1:{port}", spool=SpoolSettings(tmp_path / "s.db"), timeout_s=0.5)
    cloud = Cloud(BUNDLE, refusing(code))
    async with SplitClient(chosen, bundle=BUNDLE) as client:
        for image in PICTURES[:3]:
            await client.classify(image)
        async with serve(cloud, port):
            await until(lambda: len(cloud.seen) >= 4)
            cloud.respond = None
            assert await client.drain(60.0) == 0
    assert client.late_answers == 3
    with Spool(tmp_path / "s.db") as spool:
        assert spool.refused() == []


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND])
@pytest.mark.parametrize("exit_head", [False, True])
async def test_a_server_that_refuses_for_a_while_costs_no_sample(
    code: grpc.StatusCode, exit_head: bool, tmp_path: Path
) -> None:
    bundle = tiny_bundle(exit_head=exit_head)
    late: list[LateAnswer] = []
    async with serve(cloud := Cloud(bundle, refusing(code))) as address:
        chosen = settings(address, spool=SpoolSettings(tmp_path / "s.db"))
        async with SplitClient(chosen, bundle=bundle, on_late=late.append) as client:
            if exit_head:
                assert (await client.classify(PICTURES[0])).source == "device"
            else:
                with pytest.raises(SpooledError, match="waits in the spool"):
                    await client.classify(PICTURES[0])
            cloud.respond = None
            assert await client.drain(60.0) == 0
    assert [one.answered for one in late] == [exit_head]


async def test_spooled_samples_wait_for_their_version_while_a_model_rolls_out(
    tmp_path: Path,
) -> None:
    port = free_port()
    chosen = settings(f"127.0.0.1:{port}", spool=SpoolSettings(tmp_path / "s.db"))
    cloud = Cloud(tiny_bundle(seed=1))
    async with SplitClient(chosen, bundle=BUNDLE) as client:
        for image in PICTURES[:3]:
            await client.classify(image)
        async with serve(cloud, port):
            await until(lambda: len(cloud.seen) >= 2)
            assert client.late_answers == 0
            cloud.bundle = BUNDLE
            assert await client.drain(60.0) == 0
    assert client.late_answers == 3


async def test_samples_of_an_outage_are_made_anew_for_a_model_that_was_replaced_meanwhile(
    tmp_path: Path,
) -> None:
    port, late = free_port(), list[LateAnswer]()
    old, new = tiny_bundle(0, exit_head=False), tiny_bundle(5, exit_head=False)
    chosen = settings(f"127.0.0.1:{port}", spool=SpoolSettings(tmp_path / "s.db"))
    async with SplitClient(chosen, bundle=old, on_late=late.append) as client:
        for image in PICTURES[:5]:
            with pytest.raises(SpooledError):
                await client.classify(image)
    async with (
        serve(cloud := Cloud(new), port),
        SplitClient(chosen, bundle=old, on_late=late.append) as client,
    ):
        await until(lambda: bool(cloud.seen))
        assert not late
        client.switch(new)
        assert await client.drain(60.0) == 0
        now = [(await client.classify(image)).label for image in PICTURES[:5]]
    assert {one.version for one in late} == {new.metadata.version[:16]}
    assert [one.label for one in sorted(late, key=lambda one: one.number)] == now


async def test_with_a_goal_samples_for_the_cloud_are_kept_through_an_outage(
    tmp_path: Path,
) -> None:
    chosen = settings(
        f"127.0.0.1:{free_port()}",
        fraction="auto",
        use_exit=True,
        min_accuracy=0.95,
        spool=SpoolSettings(tmp_path / "s.db"),
    )
    async with SplitClient(chosen, bundle=BUNDLE, battery=FixedBattery(50)) as client:
        results = [await client.classify(image) for image in PICTURES]
        decision = client.decision
    assert decision is not None
    assert decision.exit_threshold is not None
    assert decision.exit_threshold > 0
    for result in results:
        assert result.source == "device"
        assert result.kept == ((result.exit_confidence or 0) < decision.exit_threshold)
    assert any(result.kept for result in results)


async def test_the_drainer_survives_a_disk_that_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, cloud, failures = free_port(), Cloud(BUNDLE), [OSError("Input/output error")]
    failures.append(sqlite3.OperationalError("disk I/O error"))  # type: ignore[arg-type]
    oldest = Spool.oldest

    def failing(spool: Spool, *arguments: Any) -> list[Sample]:
        if cloud.streams and failures:
            raise failures.pop()
        return oldest(spool, *arguments)

    monkeypatch.setattr(Spool, "oldest", failing)
    chosen = settings(f"127.0.0.1:{port}", spool=SpoolSettings(tmp_path / "s.db"))
    async with SplitClient(chosen, bundle=BUNDLE) as client:
        for image in PICTURES[:3]:
            await client.classify(image)
        async with serve(cloud, port):
            assert await client.drain(60.0) == 0
    assert not failures
    assert client.late_answers == 3


async def test_coalesced_samples_share_requests() -> None:
    cloud = Cloud(BUNDLE)
    async with (
        serve(cloud) as address,
        SplitClient(settings(address, max_wait_s=0.2), bundle=BUNDLE) as client,
    ):
        work = [client.classify(image, i) for i, image in enumerate(PICTURES)]
        results = await asyncio.gather(*work)
        assert len(cloud.seen) == 1
        alone = await client.classify(PICTURES[0])
        assert alone.latency_ms >= 190
    assert [result.label for result in results] == labels(BUNDLE, cloud.seen[:1])


async def test_flush_sends_what_waits_for_company() -> None:
    async with (
        serve(Cloud(BUNDLE)) as address,
        SplitClient(settings(address, max_wait_s=60.0), bundle=BUNDLE) as client,
        asyncio.timeout(30.0),
    ):
        waiting = asyncio.create_task(client.classify(PICTURES[0]))
        while not waiting.done():
            await asyncio.sleep(0.01)
            client.flush()
        assert (await waiting).source == "cloud"


async def test_server_may_suggest_a_narrower_level() -> None:
    async def hint(request: Request) -> Response:
        return Cloud(BUNDLE).answer(request)._replace(hints=Hints(1.5, 0))

    async with serve(Cloud(BUNDLE, hint)) as address:
        chosen = settings(address, fraction="linear")
        battery = FixedBattery(100)
        async with SplitClient(chosen, bundle=BUNDLE, battery=battery) as client:
            fractions = [(await client.classify(image)).fraction for image in PICTURES[:3]]
        async with SplitClient(settings(address), bundle=BUNDLE) as client:
            pinned = [(await client.classify(image)).fraction for image in PICTURES[:2]]
    assert fractions == [1.0, 0.25, 0.25]
    assert pinned == [1.0, 1.0]


async def test_auto_explains_itself() -> None:
    reasons: list[str] = []
    async with serve(Cloud(BUNDLE)) as address:
        chosen = settings(address, fraction="auto", use_exit=True, min_accuracy=0.95)
        client = SplitClient(
            chosen,
            bundle=BUNDLE,
            battery=FixedBattery(50),
            on_decision=lambda decision: reasons.append(decision.reason),
        )
        async with client:
            await client.classify(PICTURES[0])
    assert reasons
    assert reasons[0].startswith("auto: fraction ")


async def test_answer_that_does_not_fit_the_model() -> None:
    async def odd(request: Request) -> Response:
        return Cloud(HEADLESS).answer(request)._replace(answers=())

    async with (
        serve(Cloud(HEADLESS, odd)) as address,
        SplitClient(settings(address), bundle=HEADLESS) as client,
    ):
        with pytest.raises(LinkError, match="does not fit the model"):
            await client.classify(PICTURES[0])


async def test_server_with_another_version() -> None:
    async with (
        serve(Cloud(tiny_bundle(seed=1, exit_head=False))) as address,
        SplitClient(settings(address), bundle=HEADLESS) as client,
    ):
        with pytest.raises(VersionMismatchError, match="this server has"):
            await client.classify(PICTURES[0])
