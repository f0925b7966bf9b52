"""Hostile connections at a real server: others go on being answered, and nothing leaks."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from shared.protocol.messages import Request, request_to_message
from tests.support.fleets import process, wait_for_line
from tests.support.http2 import DATA, HEADERS, RST_STREAM, Http2, frame

pytestmark = pytest.mark.alone

STREAM = "/taper.split.v1.SplitInference/InferStream"
LEVEL = 2
PATIENCE_S = 20.0
GROWTH_BYTES = 40 * 2**20  # room for allocators; a leak of what is sent here would be more
STREAMS = 128
TOKENS = "polite polite-token-0123456789\nrude rude-token-0123456789\n"
RUDE = {"authorization": "Bearer rude-token-0123456789"}
POLITE = (("authorization", "Bearer polite-token-0123456789"),)


@dataclass
class Site:
    """A server, and a polite client of it."""

    address: str
    process: psutil.Process
    log: Path
    stub: split_pb2_grpc.SplitInferenceStub
    request: pb.InferRequest

    def answers(self, count: int = 50) -> None:
        """The polite client gets its answers, over a stream and by calls."""
        sent = iter([self.request] * count)
        streamed = list(self.stub.InferStream(sent, metadata=POLITE, timeout=PATIENCE_S))
        assert len(streamed) == count
        assert not any(one.HasField("failure") for one in streamed)
        for _ in range(5):
            answer = self.stub.Infer(self.request, metadata=POLITE, timeout=PATIENCE_S)
            assert len(answer.results) == 1

    def connect(self, window: int = 0) -> Http2:
        return Http2(self.address, STREAM, RUDE, window)

    def settles(self, files: int, memory: int) -> None:
        """Open files are back where they were, memory nearly."""
        end_s = time.monotonic() + PATIENCE_S
        while self.process.num_fds() > files + 2:
            assert time.monotonic() < end_s, f"{self.process.num_fds()} files, there were {files}"
            time.sleep(0.05)
        assert self.process.memory_info().rss - memory < GROWTH_BYTES


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    log = tmp_path / "log"
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    flags = ["--host", "127.0.0.1", "--port", "0", "--token-file", str(tokens)]
    flags += ["--max-streams-per-client", str(STREAMS)]
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    features = DeviceHalf(bundle).run(sample_digits()[0][:1][..., None], LEVEL)
    frame_ = FeatureCodec(bundle).encode_as(features, LEVEL, Encoding.RAW)
    request = request_to_message(Request(1, "", "", frame_))
    with process("cloud.server", *flags, log=log) as running:
        address = wait_for_line(running, "listening on").split()[-1]
        with grpc.insecure_channel(address) as channel:
            stub = split_pb2_grpc.SplitInferenceStub(channel)
            made = Site(address, psutil.Process(running.pid), log, stub, request)
            made.answers()
            yield made
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()


def measures(site: Site) -> tuple[int, int]:
    return site.process.num_fds(), site.process.memory_info().rss


def test_clients_that_stop_reading(site: Site) -> None:
    files, memory = measures(site)
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


def test_clients_that_send_a_byte_at_a_time(site: Site) -> None:
    files, memory = measures(site)
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


def test_a_client_that_opens_streams_by_the_thousand(site: Site) -> None:
    files, memory = measures(site)
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
    site.settles(files, memory)


def test_clients_that_go_away_in_mid_request(site: Site) -> None:
    files, memory = measures(site)
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


def test_a_client_that_cancels_what_it_asks(site: Site) -> None:
    files, memory = measures(site)
    one = site.connect()
    body = site.request.SerializeToString()
    for _ in range(300):
        stream, head = one.open()
        cancel = frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        one.send(head + one.message(stream, body) + cancel)
    site.answers()
    one.close()
    site.settles(files, memory)


def test_bytes_that_are_no_http2(site: Site) -> None:
    files, memory = measures(site)
    host, _, port = site.address.rpartition(":")
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(200), bytes(9)):
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as plain:
            plain.sendall(data)
    one = site.connect()
    one.send(frame(DATA, 0, 99, b"no such stream") + frame(HEADERS, 0, 2, b"\xff" * 50))
    site.answers()
    one.close()
    site.settles(files, memory)
