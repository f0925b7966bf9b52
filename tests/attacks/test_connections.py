"""Hostile connections at a real server: others go on being answered, and nothing leaks."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attacked import PATIENCE_S, Attacked, attacked
from tests.support.http2 import DATA, HEADERS, RST_STREAM, frame

pytestmark = pytest.mark.alone

STREAMS = 128


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Attacked]:
    with attacked(tmp_path, "--max-streams-per-client", str(STREAMS)) as running:
        yield running


def test_clients_that_stop_reading(site: Attacked) -> None:
    files, memory = site.measures()
    body = site.request.SerializeToString()
    deaf = [site.connect(window=64) for _ in range(16)]
    for one in deaf:
        stream, head = one.open()
        data = [head]
        while min(one.window, one.stream_windows[stream]) > len(body) + 5:
            data.append(one.message(stream, body))
        one.send(b"".join(data))  # as much as the server takes without our reading
        assert len(data) > 500
    site.answers()
    for one in deaf:
        one.close()
    site.answers()
    site.settles(files, memory)


def test_clients_that_send_a_byte_at_a_time(site: Attacked) -> None:
    files, memory = site.measures()
    slow = []
    for _ in range(32):
        one = site.connect()
        stream, head = one.open()
        one.send(head)
        slow.append((one, one.message(stream, site.request.SerializeToString())))
    for place in range(12):
        for one, data in slow:
            one.send(data[place : place + 1])
        site.answers(10)
    for one, _ in slow:
        one.close()
    site.settles(files, memory)


def test_a_client_that_opens_streams_by_the_thousand(site: Attacked) -> None:
    open_and_close(site)
    files, memory = site.measures()  # allocators keep what so many streams took for the next ones
    open_and_close(site)
    site.settles(files, memory)


def open_and_close(site: Attacked) -> None:
    """Open 10,000 streams over 4 connections; others are answered meanwhile, some are refused."""
    rude = [site.connect() for _ in range(4)]
    refused = 0
    for one in rude:
        one.send(b"".join(one.open()[1] for _ in range(2500)))
        one.socket.settimeout(PATIENCE_S)
    site.answers()
    for one in rude:
        # What is above the limit is refused at once, as a stream that is reset or a status.
        try:
            while refused < STREAMS:
                for got in one.receive():
                    refused += got.kind in (RST_STREAM, HEADERS) and got.ends
        except (ConnectionResetError, TimeoutError):
            pass
    assert refused >= STREAMS
    site.answers()
    for one in rude:
        one.close()


def test_clients_that_go_away_in_mid_request(site: Attacked) -> None:
    files, memory = site.measures()
    body = site.request.SerializeToString()
    for turn in range(150):
        one = site.connect()
        stream, head = one.open()
        whole = one.message(stream, body)
        data = (head + whole[: len(whole) // 2], head + whole * 20, head)[turn % 3]
        one.send(data)
        if turn % 2:  # a reset instead of an end
            linger = struct.pack("ii", 1, 0)
            one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        one.close()
    site.answers()
    site.settles(files, memory)


def test_a_client_that_cancels_what_it_asks(site: Attacked) -> None:
    files, memory = site.measures()
    one = site.connect()
    body = site.request.SerializeToString()
    for _ in range(300):
        stream, head = one.open()
        cancel = frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        one.send(head + one.message(stream, body) + cancel)
    site.answers()
    one.close()
    site.settles(files, memory)


def test_bytes_that_are_no_http2(site: Attacked) -> None:
    files, memory = site.measures()
    host, _, port = site.address.rpartition(":")
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(200), bytes(9)):
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain:
            plain.sendall(data)
    one = site.connect()
    one.send(frame(DATA, 0, 99, b"no such stream") + frame(HEADERS, 0, 2, b"\xff" * 50))
    site.answers()
    one.close()
    site.settles(files, memory)
