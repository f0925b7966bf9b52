"""HAProxy with the shipped settings before real servers, under load by the real device library."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.clouds import free_port, until
from tests.devices import SERVED, load, progress
from tests.processes import Server, start_server
from tests.proxies import SETTINGS, Proxy, haproxy, need_haproxy

NAMES = ["cloud-1", "cloud-2", "cloud-3"]


class Site:
    """Three servers behind a proxy; a server can be stopped and started again on its port."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.ports = {name: free_port() for name in NAMES}
        self._stacks = {name: stack.enter_context(ExitStack()) for name in NAMES}
        self.servers: dict[str, Server] = {}
        for name in NAMES:
            self.start(name)
        addresses = [self.servers[name].address for name in NAMES]
        self.proxy: Proxy = stack.enter_context(haproxy(folder, addresses))

    def start(self, name: str) -> None:
        running = start_server(*SERVED, port=self.ports[name])
        self.servers[name] = self._stacks[name].enter_context(running)

    def stop(self, name: str) -> None:
        self._stacks[name].close()

    def streams(self) -> dict[str, int]:
        return {name: state.streams for name, state in self.proxy.servers().items()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    need_haproxy()
    with ExitStack() as stack:
        yield Site(stack, tmp_path)


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


async def test_a_rolling_restart_fails_nothing(site: Site) -> None:
    async with load(site.proxy.address) as tally:
        await progress(tally, 200)
        assert set(site.streams().values()) == {2}  # the least busy server gets the next stream
        for name in NAMES:
            await asyncio.to_thread(site.stop, name)
            await until(lambda name=name: name not in site.proxy.up(), 20)  # type: ignore[misc]
            await asyncio.to_thread(site.start, name)
            await until(lambda: len(site.proxy.up()) == len(NAMES), 20)
            await progress(tally, 100)
    assert tally.right, tally.failures


async def test_the_share_of_a_frozen_server_moves(site: Site) -> None:
    async with load(site.proxy.address) as tally:
        await progress(tally, 200)
        frozen = site.servers["cloud-2"].process
        frozen.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: site.streams()["cloud-2"] == 0, 20)
            await until(lambda: sum(site.streams().values()) == 6, 20)
            assert site.proxy.up() == ["cloud-1", "cloud-3"]
            await progress(tally, 200)
        finally:
            frozen.send_signal(signal.SIGCONT)
        await until(lambda: len(site.proxy.up()) == len(NAMES), 20)
    assert tally.right, tally.failures
