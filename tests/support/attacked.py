"""A server under attack, with a polite client that must go on being answered."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from shared.protocol.messages import Request, request_to_message
from tests.support.fleets import process, wait_for_line
from tests.support.http2 import Http2

STREAM = "/taper.split.v1.SplitInference/InferStream"
LEVEL = 2
PATIENCE_S = 20.0
GROWTH_BYTES = 40 * 2**20  # room for allocators; a leak of what is sent here would be more
TOKENS = "polite polite-token-0123456789\nrude rude-token-0123456789\n"
RUDE = {"authorization": "Bearer rude-token-0123456789"}
POLITE = (("authorization", "Bearer polite-token-0123456789"),)


@dataclass
class Attacked:
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

    def connect(self, window: int = 0, path: str = STREAM) -> Http2:
        """A connection of the rude client."""
        return Http2(self.address, path, RUDE, window)

    def measures(self) -> tuple[int, int]:
        """The server's open files, and its memory in bytes."""
        return self.process.num_fds(), self.process.memory_info().rss

    def settles(self, files: int, memory: int, growth: int = GROWTH_BYTES) -> None:
        """Open files are back where they were, memory is less than ``growth`` bytes above."""
        end_s = time.monotonic() + PATIENCE_S
        while self.process.num_fds() > files + 2:
            assert time.monotonic() < end_s, f"{self.process.num_fds()} files, there were {files}"
            time.sleep(0.05)
        assert self.process.memory_info().rss - memory < growth


@contextmanager
def attacked(folder: Path, *flags: str) -> Iterator[Attacked]:
    """A server with two tokens; at the end SIGTERM ends it, and its log has no traceback."""
    log, tokens = folder / "log", folder / "tokens"
    tokens.write_text(TOKENS)
    command = ["--host", "127.0.0.1", "--port", "0", "--token-file", str(tokens), *flags]
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    features = DeviceHalf(bundle).run(sample_digits()[0][:1][..., None], LEVEL)
    frame = FeatureCodec(bundle).encode_as(features, LEVEL, Encoding.RAW)
    request = request_to_message(Request(1, "", "", frame))
    with process("cloud.server", *command, log=log) as running:
        address = wait_for_line(running, "listening on").split()[-1]
        with grpc.insecure_channel(address) as channel:
            stub = split_pb2_grpc.SplitInferenceStub(channel)
            made = Attacked(address, psutil.Process(running.pid), log, stub, request)
            made.answers()
            yield made
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE_S) == 0
    assert "Traceback" not in log.read_text()
