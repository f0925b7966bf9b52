"""HAProxy with the shipped settings before real servers, under load by the real device library."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.support.attacked import STREAM
from tests.support.clouds import until
from tests.support.devices import load, progress
from tests.support.http2 import Http2
from tests.support.proxies import SETTINGS, haproxy, need_haproxy
from tests.support.sites import Site, site

pytestmark = pytest.mark.alone


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Site]:
    need_haproxy()
    with site(tmp_path) as made:
        yield made


def test_settings_are_sound(tmp_path: Path) -> None:
    need_haproxy()
    servers = tmp_path / "servers.cfg"
    servers.write_text("backend cloud\n    server cloud-1 127.0.0.1:50051\n")
    done = subprocess.run(
        ["haproxy", "-c", "-f", str(SETTINGS), "-f", str(servers)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_only_a_server_that_says_serving_gets_streams(tmp_path: Path) -> None:
    checks = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    port = server.add_insecure_port("127.0.0.1:0")
    answers = health_pb2.HealthCheckResponse
    checks.set("", answers.SERVING)
    server.start()
    try:
        with haproxy(tmp_path, [f"127.0.0.1:{port}"]) as proxy:
            checks.set("", answers.NOT_SERVING)
            asyncio.run(until(lambda: not proxy.up()))
            checks.set("", answers.SERVING)
            asyncio.run(until(lambda: proxy.up() == ["cloud-1"]))
    finally:
        server.stop(None).wait()


async def test_a_rolling_restart_fails_nothing(running: Site) -> None:
    async with load(running.proxy.address) as tally:
        await progress(tally, 200)
        assert set(running.streams().values()) == {2}  # the least busy server gets the next stream
        await running.roll(tally, 100)
    assert tally.right, tally.failures


async def test_the_share_of_a_frozen_server_moves(running: Site) -> None:
    async with load(running.proxy.address) as tally:
        await progress(tally, 200)
        frozen = running.servers["cloud-2"].process
        frozen.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: running.streams()["cloud-2"] == 0, 20)
            await until(lambda: sum(running.streams().values()) == 6, 20)
            assert running.proxy.up() == ["cloud-1", "cloud-3"]
            await progress(tally, 200)
        finally:
            frozen.send_signal(signal.SIGCONT)
        await running.all_up()
    assert tally.right, tally.failures


async def test_hostile_headers_reach_no_stream_of_others(running: Site) -> None:
    async with load(running.proxy.address) as tally:
        await progress(tally, 200)
        for headers in ({"x-bin": "!!!"}, {"x-large": "y" * 7000}, {"x-larger": "y" * 12_000}):
            for _ in range(len(running.servers) * 2):  # each server has its share
                one = Http2(running.proxy.address, STREAM, headers)
                one.send(one.open()[1])
                await progress(tally, 10)
                one.close()
        async with grpc.aio.insecure_channel(running.proxy.address) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            call = channel.unary_unary("/grpc.health.v1.Health/Check")
            with pytest.raises(grpc.aio.AioRpcError, match="400"):
                await call(b"", metadata=(("x-large", "y" * 7000),))
            assert await call(b"", metadata=(("x-bin", b"not for servers"),))
    assert tally.right, tally.failures
