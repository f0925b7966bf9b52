"""What one client may have at a time."""

from __future__ import annotations

import tracemalloc

import pytest

from cloud.access.clients import ClientLimits, Limits, client_of
from shared.errors import OverloadedError


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:10.0.0.7:50312", "10.0.0.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50312", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:1", "fe80::/64"),
        ("ipv6:%5B::ffff:10.0.0.7%5D:50312", "10.0.0.7"),
        ("unix:/run/taper.sock", "unix:/run/taper.sock"),
        ("", ""),
    ],
)
def test_an_address_is_a_client_and_of_ipv6_a_64(peer: str, client: str) -> None:
    assert client_of(peer) == client


def test_connections_that_come_and_go_leave_nothing() -> None:
    """Each has another port; 10,000 of them kept 2 MB."""
    client_of("ipv4:10.0.0.7:1")
    tracemalloc.start()
    try:
        for port in range(10_000):
            assert client_of(f"ipv4:10.0.0.7:{port}") == "10.0.0.7"
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


def limited(
    streams: int = 9, connections: int = 9, calls: int = 9, call_bytes: int = 900
) -> ClientLimits:
    return ClientLimits(Limits(streams, connections, calls, call_bytes))


def test_streams_are_limited_for_each_client() -> None:
    limits = limited(streams=2, connections=5)
    limits.enter_stream("a", "a:1")
    limits.enter_stream("a", "a:1")
    with pytest.raises(OverloadedError, match="2 streams"):
        limits.enter_stream("a", "a:2")
    limits.enter_stream("b", "b:1")
    assert limits.streams == 3
    limits.leave_stream("a", "a:1")
    limits.enter_stream("a", "a:2")
    assert limits.streams == 3


def test_connections_are_limited_but_more_streams_of_one_are_not() -> None:
    limits = limited(connections=2)
    for connection in ("a:1", "a:2", "a:2", "a:1"):
        limits.enter_stream("a", connection)
    with pytest.raises(OverloadedError, match="2 connections"):
        limits.enter_stream("a", "a:3")
    limits.leave_stream("a", "a:1")
    with pytest.raises(OverloadedError, match="2 connections"):
        limits.enter_stream("a", "a:3")  # one stream of the first connection is still open
    assert limits.connections == {"a:1", "a:2"}
    limits.leave_stream("a", "a:1")
    limits.enter_stream("a", "a:3")


def test_calls_and_their_bytes_are_limited_for_each_client() -> None:
    limits = limited(calls=3, call_bytes=100)
    limits.enter_call("a", 60)
    with pytest.raises(OverloadedError, match="100 bytes"):
        limits.enter_call("a", 41)
    limits.enter_call("b", 41)
    limits.enter_call("a", 40)
    limits.enter_call("a", 0)
    with pytest.raises(OverloadedError, match="3 calls"):
        limits.enter_call("a", 0)
    limits.leave_call("a", 60)
    limits.enter_call("a", 60)


def test_one_call_of_any_size_is_let_in() -> None:
    limits = limited(call_bytes=100)
    limits.enter_call("a", 4_000_000)  # the size of a message has a limit of its own
    limits.leave_call("a", 4_000_000)
    assert limits.clients == 0


def test_what_is_refused_counts_for_nothing_and_clients_that_left_are_forgotten() -> None:
    limits = limited(streams=1, connections=1, calls=1)
    limits.enter_stream("a", "a:1")
    limits.enter_call("a", 5)
    for _ in range(3):
        with pytest.raises(OverloadedError):
            limits.enter_stream("a", "a:1")
        with pytest.raises(OverloadedError):
            limits.enter_call("a", 5)
    assert limits.streams == 1
    limits.leave_stream("a", "a:1")
    assert limits.clients == 1
    limits.leave_call("a", 5)
    assert limits.streams == 0
    assert limits.clients == 0  # or the server grew with every device that ever called
