"""An open-loop load: requests at a fixed rate whatever the server answers, and their outcomes.

Sixteen clients with a token each send them, since a single client would be limited to its share.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protos.split.v1 import split_pb2 as pb
from tests.support.http2 import DATA, Http2

PREFIX = 5  # bytes before a gRPC message
CONNECTIONS, STREAMS = 16, 4
TOKENS = [f"client{place}-0123456789abcdef" for place in range(CONNECTIONS)]
PATH = "/taper.split.v1.SplitInference/InferStream"


@dataclass
class Outcome:
    """The requests of one flood: sent, answered with their delay in the server, refused."""

    sent: int = 0
    refused: int = 0
    delays_us: list[int] = field(default_factory=list)  # time in queue and compute
    levels: list[tuple[float, int]] = field(default_factory=list)  # seconds since start, level

    @property
    def answered(self) -> int:
        """Return the number of answered requests."""
        return len(self.delays_us)

    @property
    def p99_us(self) -> float:
        """Return the 99th percentile of the delays of answered requests."""
        ordered = sorted(self.delays_us)
        return float(ordered[int(0.99 * (len(ordered) - 1))]) if ordered else 0.0


def token_file(folder: Path) -> Path:
    """Write the tokens of the clients to a file for ``--token-file``, and return its path."""
    path = folder / "tokens"
    path.write_text("".join(f"client{place} {token}\n" for place, token in enumerate(TOKENS)))
    return path


class _Stream:
    """One stream of a connection: its number, and the bytes of an incomplete message."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.partial = b""

    def messages(self, data: bytes) -> list[pb.InferResponse]:
        """Return the messages that are complete with ``data``."""
        data = self.partial + data
        found, position = [], 0
        while len(data) - position >= PREFIX:
            end = position + PREFIX + int.from_bytes(data[position + 1 : position + PREFIX], "big")
            if end > len(data):
                break
            found.append(pb.InferResponse.FromString(data[position + PREFIX : end]))
            position = end
        self.partial = data[position:]
        return found


class Flood:
    """Connections to a server over which ``send`` keeps a rate; for ``contextlib.closing``."""

    def __init__(self, address: str, bodies: Sequence[bytes]) -> None:
        self._bodies = bodies
        self._selector = selectors.DefaultSelector()
        self._connections: list[tuple[Http2, dict[int, _Stream]]] = []
        self._turn = 0
        for token in TOKENS:
            connection = Http2(address, PATH, {"authorization": f"Bearer {token}"})
            streams = {}
            for _ in range(STREAMS):
                number, head = connection.open()
                connection.send(head)
                streams[number] = _Stream(number)
            entry = (connection, streams)
            self._selector.register(connection.socket, selectors.EVENT_READ, entry)
            self._connections.append(entry)

    def close(self) -> None:
        """Close all connections."""
        self._selector.close()
        for connection, _ in self._connections:
            connection.close()

    def send(self, rate_per_s: float, seconds: float, outcome: Outcome | None = None) -> Outcome:
        """Send for ``seconds``; answers that come meanwhile are counted in the outcome."""
        made = Outcome() if outcome is None else outcome
        began_s = time.perf_counter()
        due = 0
        while (now_s := time.perf_counter() - began_s) < seconds:
            wanted = int(now_s * rate_per_s)
            for _ in range(min(wanted - due, 64)):  # late requests are sent, but not all at once
                self._one(made)
                due += 1
            wait_s = 0.0 if due < wanted else max((due + 1) / rate_per_s - now_s, 0.0)
            self._take(made, min(wait_s, 0.005), now_s)
        return made

    def drain(self, outcome: Outcome, seconds: float) -> None:
        """Count further answers until all have come or ``seconds`` have passed."""
        began_s = time.perf_counter()
        while outcome.answered + outcome.refused < outcome.sent:
            now_s = time.perf_counter() - began_s
            if now_s > seconds:
                return
            self._take(outcome, 0.01, now_s)

    def _one(self, outcome: Outcome) -> None:
        self._turn += 1
        connection, streams = self._connections[self._turn % CONNECTIONS]
        number = list(streams)[self._turn // CONNECTIONS % STREAMS]
        body = self._bodies[self._turn % len(self._bodies)]
        if min(connection.window, connection.stream_windows[number]) < len(body) + PREFIX:
            return  # flow control holds this one back: it was neither sent nor refused
        connection.send(connection.message(number, body))
        outcome.sent += 1

    def _take(self, outcome: Outcome, wait_s: float, now_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            connection, streams = key.data
            for got in connection.receive():
                if got.kind != DATA:
                    continue
                for message in streams[got.stream].messages(got.payload):
                    if message.HasField("failure"):
                        outcome.refused += 1
                    else:
                        outcome.delays_us.append(message.queue_us + message.compute_us)
                        outcome.levels.append((now_s, message.cloud_level))
