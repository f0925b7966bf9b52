"""Replicas on Ray Serve under load by the real device library. ``make ray`` runs these.

They need an environment with ray in it, since ray is not among what every developer installs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from protos.split.v1 import split_pb2, split_pb2_grpc
from shared.protocol.messages import model_request
from tests.support.clouds import until
from tests.support.devices import MODEL, load, progress
from tests.support.ray_cluster import VARIABLE, ray_environment, ray_serve

ENVIRONMENT = ray_environment()
pytestmark = [
    pytest.mark.skipif(ENVIRONMENT is None, reason=f"{VARIABLE} names no environment: make ray"),
    pytest.mark.timeout(300),
    pytest.mark.alone,
]


def refusals_keep_their_status(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetModel(model_request("nothing"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert MODEL in str(refused.value.details())  # what there is instead
        parts = list(stub.GetDevicePart(split_pb2.GetDevicePartRequest(model=MODEL)))
        assert sum(len(part.chunk) for part in parts) == parts[0].total_bytes


async def test_a_replica_that_is_killed_costs_no_sample(tmp_path: Path) -> None:
    assert ENVIRONMENT is not None
    cluster = ray_serve(tmp_path, ENVIRONMENT, least=2, most=2, streams_a_replica=4)
    running = await asyncio.to_thread(cluster.__enter__)
    try:
        async with load(running.address, devices=6) as tally:
            await progress(tally, 300)
            victim, other = running.replicas()
            victim.kill()
            await until(lambda: victim not in running.replicas(), 60)
            await progress(tally, 300)
            await until(lambda: len(running.replicas()) == 2, 120)  # Ray has started another
            assert other in running.replicas()
            await progress(tally, 300)
        assert tally.right, (tally.failures, tally.wrong)
    finally:
        await asyncio.to_thread(cluster.__exit__, None, None, None)


async def test_replicas_are_added_under_load(tmp_path: Path) -> None:
    assert ENVIRONMENT is not None
    cluster = ray_serve(tmp_path, ENVIRONMENT, least=1, most=2, streams_a_replica=3)
    running = await asyncio.to_thread(cluster.__enter__)
    try:
        async with load(running.address, devices=2) as few:
            await progress(few, 100)
            assert len(running.replicas()) == 1
            await asyncio.to_thread(refusals_keep_their_status, running.address)
            async with load(running.address, devices=6) as many:
                await until(lambda: len(running.replicas()) == 2, 120)
                await progress(many, 300)
        assert few.right, few.failures
        assert many.right, many.failures
    finally:
        await asyncio.to_thread(cluster.__exit__, None, None, None)
