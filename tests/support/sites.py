"""Three real servers behind a real proxy, each of which can be stopped and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.clouds import free_port, until
from tests.support.devices import SERVED, Tally, progress
from tests.support.processes import Server, start_server
from tests.support.proxies import Proxy, haproxy

NAMES = ("cloud-1", "cloud-2", "cloud-3")
SETTLE_S = 20.0


class Site:
    """The servers by name, and the proxy before them."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.ports = {name: free_port() for name in NAMES}
        self._stacks = {name: stack.enter_context(ExitStack()) for name in NAMES}
        self.servers: dict[str, Server] = {}
        for name in NAMES:
            self.start(name)
        addresses = [self.servers[name].address for name in NAMES]
        self.proxy: Proxy = stack.enter_context(haproxy(folder, addresses))

    def start(self, name: str) -> None:
        """Start a server on its port."""
        running = start_server(*SERVED, port=self.ports[name])
        self.servers[name] = self._stacks[name].enter_context(running)

    def stop(self, name: str) -> None:
        """End a server with SIGTERM: it drains."""
        self._stacks[name].close()

    def streams(self) -> dict[str, int]:
        """Open streams of each server, as the proxy counts them."""
        return {name: state.streams for name, state in self.proxy.servers().items()}

    async def all_up(self) -> None:
        """Wait until the proxy finds every server healthy."""
        await until(lambda: len(self.proxy.up()) == len(NAMES), SETTLE_S)

    async def down(self, name: str) -> None:
        """Wait until the proxy gives no more streams to a server."""
        await until(lambda: name not in self.proxy.up(), SETTLE_S)

    async def roll(self, tally: Tally, samples: int) -> None:
        """Restart every server, one after the other, with ``samples`` answered in between."""
        for name in NAMES:
            await asyncio.to_thread(self.stop, name)
            await self.down(name)
            await asyncio.to_thread(self.start, name)
            await self.all_up()
            await progress(tally, samples)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Servers and proxy while the block runs."""
    with ExitStack() as stack:
        yield Site(stack, folder)
