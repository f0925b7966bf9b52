"""Connections that the native front cuts are counted, and its log says whose and why."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.debian import need_native_front
from tests.support.hostile import INFER
from tests.support.http2 import CONTINUATION, HEADERS, Http2, frame, literal
from tests.support.served import eventually, serve

need_native_front()

pytestmark = pytest.mark.alone


def headers_without_an_end(_: Http2) -> Iterator[bytes]:
    yield frame(HEADERS, 0, 1, literal(":method", "POST", index=False))
    while True:
        yield frame(CONTINUATION, 0, 1, literal("x-a", "b" * 100, index=False) * 70)


def streams_without_a_message(one: Http2) -> Iterator[bytes]:
    """The settings, which limit them, are never confirmed."""
    while True:
        yield b"".join(one.open()[1] for _ in range(100))


@pytest.mark.parametrize(
    ("flood", "fault"),
    [
        (headers_without_an_end, "sent much that is no request"),
        (streams_without_a_message, "has too many streams"),
    ],
)
def test_what_is_cut_is_counted_and_logged(
    flood: Callable[[Http2], Iterator[bytes]], fault: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    flags = ("--model", "mnist-binary-paper", "--log-format", "json")
    with serve(*flags, log=log, TAPER_FRONT="native") as served:
        with contextlib.closing(Http2(served.address, INFER)) as one:
            host, port = one.socket.getsockname()
            with contextlib.suppress(OSError):
                for data in flood(one):
                    one.send(data)
            eventually(lambda: served.sample("taper_connections_cut_total") > 0)
        assert served.sample("taper_connections_cut_total") == 1
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (cut,) = (line for line in lines if line["event"] == "connections were cut")
    assert (cut["count"], cut["peer"], cut["fault"]) == (1, f"{host}:{port}", fault)
