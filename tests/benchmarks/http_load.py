"""Load over HTTP/1.1: persistent connections with one prebuilt request in flight on each."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.load import Load

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"
RECEIVE_BYTES = 65_536


class HttpCaller:
    """Posts ``bodies`` (JSON) in turn to ``path`` at ``address``, again and again."""

    def __init__(self, address: str, path: str, bodies: Sequence[bytes], in_flight: int) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        self._requests = [
            f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies
        ]
        host, _, port = address.rpartition(":")
        self._sockets = [socket.create_connection((host, int(port)), 30) for _ in range(in_flight)]
        for one in self._sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._next = 0

    def close(self) -> None:
        """Close the connections."""
        for one in self._sockets:
            one.close()

    def run(self, seconds: float) -> Load:
        """Send a request on every connection, and the next one as soon as it is answered."""
        load = Load()
        began = time.perf_counter()
        end = began + seconds
        with selectors.DefaultSelector() as ready:
            sent: dict[Any, float] = {}
            partial: dict[Any, bytes] = {}
            for opened in self._sockets:
                ready.register(opened, selectors.EVENT_READ)
                opened.sendall(self._request())
                sent[opened], partial[opened] = time.perf_counter(), b""
            while sent:
                for key, _ in ready.select():
                    one: Any = key.fileobj
                    data = one.recv(RECEIVE_BYTES)
                    if not data:
                        raise ConnectionError("the server closed a connection")
                    partial[one] += data
                    if not _is_whole(partial[one]):
                        continue
                    now = time.perf_counter()
                    load.latencies.append(now - sent.pop(one))
                    partial[one] = b""
                    if now < end:
                        sent[one] = now
                        one.sendall(self._request())
        load.seconds = time.perf_counter() - began
        load.answered = len(load.latencies)
        return load

    def _request(self) -> bytes:
        self._next += 1
        return self._requests[self._next % len(self._requests)]


def _is_whole(data: bytes) -> bool:
    """Return whether a response is complete; ``ConnectionError`` if its status is not 200."""
    head, found, body = data.partition(END_OF_HEAD)
    if not found:
        return False
    first, *lines = head.split(b"\r\n")
    if b" 200 " not in first + b" ":
        raise ConnectionError(f"the server answered {first.decode(errors='replace')}")
    sizes = [int(line[len(LENGTH) :]) for line in lines if line.lower().startswith(LENGTH)]
    return bool(sizes) and len(body) >= sizes[0]
