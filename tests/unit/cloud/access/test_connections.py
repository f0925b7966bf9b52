"""Connections that are closed, and told to go elsewhere, without a call of gRPC's."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.access.connections import (
    GOAWAY,
    ConnectionGuard,
    peer_address,
    raise_file_limit,
    send_goaway,
)
from tests.support.http2 import GOAWAY as GOAWAY_KIND
from tests.support.http2 import frame


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:50312", ("10.0.0.7", 50312)),
        ("ipv6:%5Bfe80::1%5D:50312", ("fe80::1", 50312)),
        ("ipv6:[::1]:1", ("::1", 1)),
        ("unix:/run/taper.sock", None),
        ("", None),
    ],
)
def test_a_peer_is_an_address_and_a_port(peer: str, address: tuple[str, int] | None) -> None:
    assert peer_address(peer) == address


@contextlib.contextmanager
def connections(count: int) -> Iterator[tuple[int, list[socket.socket]]]:
    """A listening port of this process and so many connections to it, the oldest first."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        clients = []
        for _ in range(count):
            client = socket.create_connection(listener.getsockname(), timeout=5)
            clients.append(stack.enter_context(client))
            stack.enter_context(listener.accept()[0])
        yield listener.getsockname()[1], clients


def ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def peer(client: socket.socket) -> str:
    host, port = client.getsockname()
    return f"ipv4:{host}:{port}"


def test_only_when_files_run_short_those_idle_longest_are_closed() -> None:
    with connections(20) as (port, clients):
        used_s = {peer(client): float(place) for place, client in enumerate(clients)}
        in_use = [peer(clients[0])]
        assert ConnectionGuard(port, limit=100_000).check(used_s, in_use) == 0
        limit = len(list(Path("/proc/self/fd").iterdir())) - 1  # all that are open
        closed = ConnectionGuard(port, limit).check(used_s, in_use)
        assert 0 < closed <= 19
        state = [ended(client) for client in clients]
        assert state == [False] + [True] * closed + [False] * (19 - closed)


def test_the_limit_of_files_is_raised_as_far_as_it_may() -> None:
    assert raise_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_clients_are_sent_away_and_nobody_comes_any_more() -> None:
    with connections(3) as (port, clients):
        assert send_goaway(port, encrypted=False) == 3
        for client in clients:
            assert client.recv(100) == GOAWAY
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_an_encrypted_connection_is_not_written_to() -> None:
    with connections(1) as (port, clients):
        assert send_goaway(port, encrypted=True) == 0
        clients[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[0].recv(1)


def test_the_frame_is_a_goaway_that_refuses_no_stream() -> None:
    assert frame(GOAWAY_KIND, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0") == GOAWAY
