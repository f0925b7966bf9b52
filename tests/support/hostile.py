"""Hostile clients. Each acts from an address of its own until it is stopped.

They come from another loopback address than polite clients: what a server allows, it allows to each
client.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.support.http2 import RST_STREAM, Http2, frame, grpc_message

INFER = "/taper.split.v1.SplitInference/Infer"
INFER_STREAM = "/taper.split.v1.SplitInference/InferStream"
SOURCE = "127.0.0.66"
STREAMS = 10_000
DRIPPING = 50
FULL_S = 0.5  # a server that takes nothing for so long has stopped reading
CANCEL = struct.pack(">I", 8)  # HTTP/2's error code
PAUSE_S = 0.005

Tactic = Callable[[str, Sequence[bytes], threading.Event], None]


def stop_reading(address: str, bodies: Sequence[bytes], stop: threading.Event) -> None:
    """Send requests as long as the server takes them, and read no answer."""
    with connected(address, INFER_STREAM) as one:
        one.socket.settimeout(FULL_S)
        stream, head = one.open()
        with contextlib.suppress(OSError):
            one.send(head)
            while not stop.is_set():
                one.send(one.message(stream, bodies[0]) * 100)
        stop.wait()


def take_no_answer(address: str, bodies: Sequence[bytes], stop: threading.Event) -> None:
    """Read, but let the server send no more than a byte on each of 100 streams."""
    with contextlib.suppress(OSError), connected(address, INFER_STREAM, window=1) as one:
        for _ in range(100):
            stream, head = one.open()
            one.send(head + one.message(stream, bodies[0]))
        stop.wait()


def drip(address: str, bodies: Sequence[bytes], stop: threading.Event) -> None:
    """A request over each of many connections, a byte a second."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        ones = [stack.enter_context(connected(address, INFER)) for _ in range(DRIPPING)]
        opened = [one.open() for one in ones]
        slow = [
            head + one.message(stream, bodies[0])
            for one, (stream, head) in zip(ones, opened, strict=True)
        ]
        for place in range(len(slow[0])):
            for one, data in zip(ones, slow, strict=True):
                one.send(data[place : place + 1])
            if stop.wait(1.0):
                return


def open_streams(address: str, bodies: Sequence[bytes], stop: threading.Event) -> None:
    """Ten thousand streams without an end, whatever the server said about its limit."""
    with connected(address, INFER_STREAM) as one:
        with contextlib.suppress(OSError):  # the server may well hang up
            one.send(b"".join(one.open()[1] for _ in range(STREAMS)))
        stop.wait()


def reset_streams(address: str, bodies: Sequence[bytes], stop: threading.Event) -> None:
    """Open 2,000 streams a second, send a request on each, take half back at once, half later."""
    with contextlib.suppress(OSError), connected(address, INFER_STREAM) as one:
        later = b""
        while not stop.wait(PAUSE_S):
            data, later = [later], b""
            for place in range(10):
                stream, head = one.open()
                data += [head, one.message(stream, bodies[0])]
                reset = frame(RST_STREAM, 0, stream, CANCEL)
                if place % 2:
                    later += reset
                else:
                    data.append(reset)
            one.send(b"".join(data))


def hang_up(address: str, bodies: Sequence[bytes], stop: threading.Event) -> None:
    """Connect, send half a request and one that nobody waits for, go away; 100 times a second."""
    half = grpc_message(bodies[0])[: len(bodies[0]) // 2]
    while not stop.wait(2 * PAUSE_S):
        with contextlib.suppress(OSError), connected(address, INFER_STREAM) as one:
            stream, head = one.open()
            unread, more = one.open()
            one.send(head + frame(0, 0, stream, half) + more + one.message(unread, bodies[0]))


TACTICS: dict[str, Tactic] = {
    tactic.__name__.replace("_", " "): tactic
    for tactic in (stop_reading, take_no_answer, drip, open_streams, reset_streams, hang_up)
}


@contextmanager
def connected(address: str, path: str, window: int = 0) -> Iterator[Http2]:
    """A connection of a hostile client while the block runs."""
    one = Http2(address, path, {"user-agent": "hostile"}, window, SOURCE)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def attacking(tactic: Tactic, address: str, bodies: Sequence[bytes]) -> Iterator[None]:
    """A hostile client in a thread while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=tactic, args=(address, bodies, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
