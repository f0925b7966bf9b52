"""Addresses to listen on, and ports that cannot be had."""

from __future__ import annotations

import socket

import pytest

from cloud.serving.address import bind_error, joined, reserved
from shared.errors import UsageError


@pytest.mark.parametrize(
    ("host", "text"),
    [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1"), ("[::]", "[::]:1"), ("cloud", "cloud:1")],
)
def test_an_ipv6_address_gets_its_brackets(host: str, text: str) -> None:
    assert joined(host, 1) == text


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]"])
def test_a_port_that_is_listened_on_is_refused_with_the_reason(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host.strip("[]"), 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert bind_error(host, port) == "Address already in use"
        with pytest.raises(UsageError, match="Address already in use"), reserved(host, port):
            pass


def test_a_port_whose_connections_have_just_ended_can_be_had() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        with socket.create_connection(address):
            served, _ = listener.accept()
            served.close()  # the side that closes first waits in TIME_WAIT
    with reserved("127.0.0.1", address[1]) as port:
        assert port == address[1]


def test_a_host_that_is_none_is_refused_with_the_reason() -> None:
    with (
        pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1:0"),
        reserved("192.0.2.1", 0),
    ):
        pass
