"""Coalescing: which samples share a request."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from device.policy.simple import Decision, Look
from device.split.coalesce import Coalescer, Route
from device.split.pipeline import Pipeline
from device.transport.link import Link, LinkSettings
from shared.errors import LinkError
from tests.support.clouds import Cloud, free_port, serve, tiny_bundle, until

BUNDLE = tiny_bundle()
WAIT = Decision((Look(2),), wait_s=0.05, batch=64)
FEATURES = np.zeros((1, 16), np.uint8)


async def test_a_sample_that_may_wait_is_not_given_up_with_one_that_may_not() -> None:
    port = free_port()
    pipeline = Pipeline(BUNDLE)
    settings = LinkSettings((f"127.0.0.1:{port}",), timeout_s=20.0, patient=True)
    async with Link(settings) as link:
        coalescer = Coalescer(link, top_k=0)
        hasty = asyncio.create_task(coalescer.send(Route(pipeline, 2, True), FEATURES, WAIT))
        patient = asyncio.create_task(coalescer.send(Route(pipeline, 2, False), FEATURES, WAIT))
        await until(lambda: link.away)
        with pytest.raises(LinkError):
            await hasty
        assert not patient.done()
        async with serve(Cloud(BUNDLE), port):
            assert (await patient).response.answers
        await coalescer.close()


async def test_samples_of_one_route_share_a_request() -> None:
    pipeline, cloud = Pipeline(BUNDLE), Cloud(BUNDLE)
    async with serve(cloud) as address, Link(LinkSettings((address,))) as link:
        coalescer = Coalescer(link, top_k=0)
        routes = [Route(pipeline, 2, True)] * 3 + [Route(pipeline, 2, False)] * 2
        await asyncio.gather(*(coalescer.send(route, FEATURES, WAIT) for route in routes))
        await coalescer.close()
    assert sorted(request.frame.samples for request in cloud.seen) == [2, 3]
