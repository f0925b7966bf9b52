"""Load on a gRPC server over one connection, with a fixed number of requests in flight.

It sends prebuilt bytes with a raw HTTP/2 client, so that the load costs less than the server: a
gRPC client in Python is slower than the servers that it would measure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from protos.split.v1 import split_pb2 as pb
from tests.support.http2 import DATA, Http2, frame

INFER = "/taper.split.v1.SplitInference/Infer"
INFER_STREAM = "/taper.split.v1.SplitInference/InferStream"
PREFIX = 5  # bytes before a gRPC message


@dataclass
class Load:
    """The result: seconds, number of answered requests, and the latency of each in seconds.

    ``refused`` is the number of refusals among the answers on a stream of InferResponse.
    """

    seconds: float = 0.0
    answered: int = 0
    refused: int = 0
    latencies: list[float] = field(default_factory=list)


class Caller:
    """Sends ``bodies`` in turn to ``path`` at ``address``, again and again, from ``source``."""

    def __init__(
        self,
        address: str,
        path: str,
        bodies: Sequence[bytes],
        metadata: dict[str, str] | None = None,
        source: str = "",
    ) -> None:
        self._bodies = bodies
        self._path = path
        headers = {"user-agent": "taper-load", **(metadata or {})}
        self._connection = Http2(address, path, headers, source=source)
        self._stream = 0
        self._next = 0
        self._partial = b""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _body(self) -> bytes:
        self._next += 1
        return self._bodies[self._next % len(self._bodies)]

    def unary(self, in_flight: int, seconds: float) -> Load:
        """Make a call for each request."""
        connection, load = self._connection, Load()
        began = time.perf_counter()
        end = began + seconds
        sent: dict[int, float] = {}

        def call() -> bytes:
            stream, head = connection.open()
            sent[stream] = time.perf_counter()
            return head + connection.message(stream, self._body(), last=True)

        connection.send(b"".join(call() for _ in range(in_flight)))
        while sent:
            out = []
            for one in connection.receive():
                if not one.ends or one.stream not in sent:
                    continue
                now = time.perf_counter()
                load.latencies.append(now - sent.pop(one.stream))
                connection.stream_windows.pop(one.stream, None)
                if now < end:
                    out.append(call())
            if out:
                connection.send(b"".join(out))
        load.seconds = time.perf_counter() - began
        load.answered = len(load.latencies)
        return load

    def stream(self, in_flight: int, seconds: float) -> Load:
        """Send all requests on one stream. Answers are matched in order, as all cost the same."""
        connection, load = self._connection, Load()
        self._partial = b""
        self._stream, head = connection.open()
        began = time.perf_counter()
        end = began + seconds
        sent = [began] * in_flight
        answers: list[bytes] = []
        first = 0
        connection.send(
            head
            + b"".join(connection.message(self._stream, self._body()) for _ in range(in_flight))
        )
        while first < len(sent):
            out = []
            taken = 0
            for one in connection.receive():
                if one.kind != DATA or one.stream != self._stream:
                    continue
                taken += len(one.payload)
                for message in self._messages(one.payload):
                    now = time.perf_counter()
                    answers.append(message)
                    load.latencies.append(now - sent[first])
                    first += 1
                    if now < end:
                        sent.append(now)
                        out.append(connection.message(self._stream, self._body()))
            if out:
                connection.send(b"".join(out))
        load.seconds = time.perf_counter() - began
        load.answered = len(load.latencies)
        if self._path == INFER_STREAM:
            load.refused = sum(refused(answer) for answer in answers)
        connection.send(frame(DATA, 1, self._stream))
        return load

    def _messages(self, data: bytes) -> list[bytes]:
        """Return the gRPC messages that are complete with ``data``."""
        data = self._partial + data
        found, position = [], 0
        while len(data) - position >= PREFIX:
            end = position + PREFIX + int.from_bytes(data[position + 1 : position + PREFIX], "big")
            if end > len(data):
                break
            found.append(data[position + PREFIX : end])
            position = end
        self._partial = data[position:]
        return found


def refused(answer: bytes) -> bool:
    """Return whether an InferResponse says that its request was refused."""
    return pb.InferResponse.FromString(answer).HasField("failure")
