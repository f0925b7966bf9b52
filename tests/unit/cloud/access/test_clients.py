"""What one client may hold at a time."""

from __future__ import annotations

import pytest

from cloud.access.clients import ClientLimits, host_of
from shared.errors import OverloadedError


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.7:50312", "ipv4:10.0.0.7"),
        ("ipv6:%5B::1%5D:50312", "ipv6:%5B::1%5D"),
        ("ipv6:[fe80::1]:1", "ipv6:[fe80::1]"),
        ("unix:/run/taper.sock", "unix:/run/taper.sock"),
        ("", ""),
    ],
)
def test_a_peer_without_its_port_is_the_host(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_streams_are_limited_for_each_client() -> None:
    limits = ClientLimits(max_streams=2, max_connections=5)
    limits.enter("a", "a:1")
    limits.enter("a", "a:1")
    with pytest.raises(OverloadedError, match="2 streams"):
        limits.enter("a", "a:2")
    limits.enter("b", "b:1")
    assert limits.streams == 3
    limits.leave("a", "a:1")
    limits.enter("a", "a:2")
    assert limits.streams == 3


def test_connections_are_limited_but_more_streams_of_one_are_not() -> None:
    limits = ClientLimits(max_streams=9, max_connections=2)
    for connection in ("a:1", "a:2", "a:2", "a:1"):
        limits.enter("a", connection)
    with pytest.raises(OverloadedError, match="2 connections"):
        limits.enter("a", "a:3")
    limits.leave("a", "a:1")
    with pytest.raises(OverloadedError, match="2 connections"):
        limits.enter("a", "a:3")  # one stream of the first connection is still open
    limits.leave("a", "a:1")
    limits.enter("a", "a:3")


def test_what_is_refused_counts_for_nothing_and_clients_that_left_are_forgotten() -> None:
    limits = ClientLimits(max_streams=1, max_connections=1)
    limits.enter("a", "a:1")
    for _ in range(3):
        with pytest.raises(OverloadedError):
            limits.enter("a", "a:1")
    assert limits.streams == 1
    limits.leave("a", "a:1")
    assert limits.streams == 0
    assert limits.clients == 0  # or the server grew with every device that ever called
