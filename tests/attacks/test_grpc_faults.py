"""Published faults of gRPC's C core, tried on a real server: SECURITY.md lists them.

Whatever version of the core a front is built on, a server may close the connection of whoever does
this, or refuse the call; others go on being answered, and its memory stays bounded.
"""

from __future__ import annotations

import contextlib
import gzip
import struct
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.support.attacked import PATIENCE_S, STREAM, Attacked, attacked
from tests.support.hostile import INFER
from tests.support.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    Received,
    frame,
    grpc_message,
    literal,
    string_length,
)

pytestmark = pytest.mark.alone

PIECE_BYTES = 8000  # of headers in a frame; gRPC's own limit is 8 KiB
FLOOD_BYTES, FLOOD_S = 96 * 2**20, 5.0
GROWTH_BYTES = 128 * 2**20  # a core that keeps a flood of headers takes three times its bytes
CANCEL = struct.pack(">I", 8)
QUIET_S = 0.3
TOKEN = "Bearer rude-token-0123456789"
Headers = Sequence[tuple[str, str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("attacked")) as running:
        yield running


@pytest.fixture(autouse=True)
def others_are_answered(site: Attacked) -> Iterator[None]:
    """After each attack: the polite client, open files and memory; no line of gRPC in the log."""
    files, memory = site.measures()
    yield
    site.answers()
    site.settles(files, memory, GROWTH_BYTES)
    assert "Error parsing metadata" not in site.log.read_text()


def block(more: Headers = (), path: str = INFER, **replaced: str) -> bytes:
    """The headers of a call, all spelled out; ``replaced`` without the colons and with ``_``."""
    ours = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "server",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    for name, value in replaced.items():
        ours[name if name in ours else f":{name}"] = value
    return b"".join(literal(*pair, index=False) for pair in (*ours.items(), *more))


def heard(one: Http2) -> list[Received]:
    """The frames that arrive until the server is silent, or has closed the connection."""
    one.socket.settimeout(QUIET_S)
    frames: list[Received] = []
    with contextlib.suppress(TimeoutError, OSError):
        while True:
            frames += one.receive()
    return frames


def pour(site: Attacked, first: bytes, piece: bytes, size: int = FLOOD_BYTES) -> None:
    """Send ``first``, then ``piece`` for ``size`` bytes or some seconds, or until it is cut off."""
    end_s = time.monotonic() + FLOOD_S
    with contextlib.closing(site.connect()) as one:
        one.socket.settimeout(PATIENCE_S)
        with contextlib.suppress(OSError):
            one.send(first)
            for _ in range(size // len(piece)):
                one.send(piece)
                if time.monotonic() > end_s:
                    break
        site.answers(10)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(
    "wrong",
    [{"te": "x"}, {"scheme": "x"}, {"method": "X"}, {"content-type": "x"}, {}],
    ids=lambda wrong: next(iter(wrong), "balancer"),
)
def test_headers_that_made_it_abort(site: Attacked, wrong: dict[str, str], padding: int) -> None:
    """CVE-2023-1428: one of these, and 8 KiB of headers in all, ended the process."""
    more = [(f"x-{number}", "y" * 3000) for number in range(padding)]
    more += [("grpclb_client_stats", "x")]
    with contextlib.closing(site.connect()) as one:
        one.send(frame(HEADERS, END_HEADERS, 1, block(more, **wrong)))
        one.send(frame(DATA, END_STREAM, 1, grpc_message(b"")))
        heard(one)


def test_headers_above_the_limit_do_not_shift_those_of_later_calls(site: Attacked) -> None:
    """CVE-2023-32731: the rest of such a frame was skipped, and entries of the table with it."""
    body = site.request.SerializeToString()
    newest = b"\xbe"  # of the dynamic table
    with contextlib.closing(site.connect()) as one:
        late = literal("authorization", "Bearer of-nobody", index=True)
        late += literal("x-padding", "y" * 12_000, index=False)
        late += literal("authorization", TOKEN, index=True)
        one.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block() + late))
        heard(one)
        with contextlib.suppress(OSError):
            one.send(frame(HEADERS, END_HEADERS, 3, block() + newest))
            one.send(frame(DATA, END_STREAM, 3, grpc_message(body)))
        answer = [got for got in heard(one) if got.stream == 3]
    assert not answer or any(got.kind == DATA for got in answer), answer


def test_headers_that_are_not_base64(site: Attacked) -> None:
    """CVE-2023-32732: they end the connection, behind a proxy that of others (test_proxy.py)."""
    with contextlib.closing(site.connect()) as one:
        one.send(frame(HEADERS, END_HEADERS, 1, block([("x-bin", "!!!")])))
        heard(one)


def test_headers_without_an_end(site: Attacked) -> None:
    """CVE-2023-33953: each frame was below the limit, all together had none."""
    piece = frame(CONTINUATION, 0, 1, literal("x-a", "b" * 100, index=False) * 70)
    pour(site, frame(HEADERS, 0, 1, block()), piece)


def test_a_header_without_an_end(site: Attacked) -> None:
    """CVE-2023-33953: a string of 1 GB was collected before it was found to be too long."""
    start = b"\0\x03x-a" + string_length(2**30)
    pour(site, frame(HEADERS, 0, 1, block() + start), frame(CONTINUATION, 0, 1, b"y" * PIECE_BYTES))


def test_a_number_without_an_end(site: Attacked) -> None:
    """CVE-2023-33953: an integer may be followed by any number of zeros."""
    zeros = frame(CONTINUATION, 0, 1, b"\x80" * PIECE_BYTES)
    pour(site, frame(HEADERS, 0, 1, block() + b"\0\xff\x80\x80\x80\x80"), zeros)


def test_streams_that_are_reset_at_once(site: Attacked) -> None:
    """CVE-2023-44487: no limit of streams holds them, since they have ended already."""
    open_many(site, 10_000, lambda stream: frame(RST_STREAM, 0, stream, CANCEL))


def test_streams_that_the_server_is_made_to_reset(site: Attacked) -> None:
    """CVE-2025-8671: a frame that is wrong on its stream has the same effect as a reset."""
    open_many(site, 10_000, lambda stream: frame(WINDOW_UPDATE, 0, stream, bytes(4)))


def test_streams_of_a_client_that_confirms_no_limit(site: Attacked) -> None:
    """Before 1.60 it may have any number, and without a message the server hears of none."""
    open_many(site, 200_000, lambda _: b"", INFER)


def open_many(site: Attacked, count: int, then: Callable[[int], bytes], path: str = STREAM) -> None:
    """Open ``count`` streams, each followed by what ``then`` gives for its number."""

    def opened(one: Http2) -> bytes:
        stream, head = one.open()
        return head + then(stream)

    end_s = time.monotonic() + FLOOD_S
    with contextlib.closing(site.connect(path=path)) as one:
        one.socket.settimeout(PATIENCE_S)
        with contextlib.suppress(OSError):
            for _ in range(count // 100):
                one.send(b"".join(opened(one) for _ in range(100)))
                if time.monotonic() > end_s:
                    break
        site.answers(10)


FLOODS: dict[str, Callable[[], bytes]] = {
    "pings": lambda: frame(PING, 0, 0, bytes(8)),
    "settings": lambda: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)),
    "empty settings": lambda: frame(SETTINGS, 0, 0),
    "empty data": lambda: frame(DATA, 0, 1),
    "bytes of a message": lambda: frame(DATA, 0, 1, b"\0"),
    "windows": lambda: frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)),
    "priorities": lambda: frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)),
    "unknown frames": lambda: frame(0xEE, 0, 1, bytes(64)),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_frames_without_end(site: Attacked, kind: str) -> None:
    """CVE-2019-9511 to 9518, CVE-2026-84304: frames that cost a server more than their sender."""
    start = frame(HEADERS, END_HEADERS, 1, block([("authorization", TOKEN)]))
    start += frame(DATA, 0, 1, b"\0" + struct.pack(">I", 2**21))
    pour(site, start, FLOODS[kind]() * 1000, 50 * 1000 * len(FLOODS[kind]()))


@pytest.mark.parametrize(
    "path", [INFER.lstrip("/"), f"{INFER}/", f"/{INFER}", f"{INFER}?", "*", ""]
)
def test_a_path_that_is_nearly_right_gets_past_no_token(site: Attacked, path: str) -> None:
    """As in gRPC for Go in 2026 (CVE-2026-33186): the method was found, its rules were not."""
    body = site.request.SerializeToString()
    with contextlib.closing(site.connect()) as one:
        one.send(frame(HEADERS, END_HEADERS, 1, block(path=path)))
        with contextlib.suppress(OSError):
            one.send(frame(DATA, END_STREAM, 1, grpc_message(body)))
        assert not any(got.kind == DATA and got.payload for got in heard(one))


def test_a_message_that_unpacks_beyond_the_limit(site: Attacked) -> None:
    packed = gzip.compress(bytes(64 * 2**20), 9)
    body = b"\1" + struct.pack(">I", len(packed)) + packed
    more = [("grpc-encoding", "gzip"), ("authorization", TOKEN)]
    with contextlib.closing(site.connect()) as one:
        with contextlib.suppress(OSError):
            one.send(frame(HEADERS, END_HEADERS, 1, block(more)))
            for start in range(0, len(body), 16_384):
                one.send(frame(DATA, 0, 1, body[start : start + 16_384]))
            one.send(frame(DATA, END_STREAM, 1))
        frames = heard(one)
    assert not any(got.kind == DATA and got.payload for got in frames)
