"""Fuzz a real server with frames: ``python -m tests.attacks.fuzz_frames --frames 100000``.

Mutated and random requests, seeded. Whatever comes, the server answers, or refuses with one of four
statuses; a valid request right after each is still answered as before; no traceback is logged.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import psutil

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import Bundle, read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from shared.protocol.messages import DEFAULT_MAX_MESSAGE_BYTES
from tests.support.processes import start_server

ALLOWED = {
    grpc.StatusCode[name].value[0]
    for name in ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED")
}
MODEL = "mnist-binary-paper"  # has tables for every encoding
NUMBERS = (0, 1, 2, 3, 5, 6, 7, 255, 1024, 1025, 2**16, 2**31, 2**32 - 1)
# zstd frames that claim gigabytes: a content size of 2**40, and a window of 2**41 bytes.
BOMBS = (
    b"\xc0" + (2**40).to_bytes(8, "little") + b"\x01\x00\x00",
    b"\x00\xf8" + b"\x03\xff\xff" + b"\0",
    b"\x00\x58" + b"\xfb\xff\x1f\x00" * 50,
)


@dataclass
class Outcome:
    """What became of the frames: how many had which status, and what must not have happened."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory_before: int = 0
    memory_after: int = 0


class Frames:
    """Requests from one seed; ``valid`` is one that is always answered."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        codec, half = FeatureCodec(bundle), DeviceHalf(bundle)
        images = sample_digits()[0][..., None]
        self._good = []
        for level in range(1, len(bundle.architecture.device_levels)):
            for count in (1, 3):
                features = half.run(images[:count], level)
                for encoding in Encoding:
                    frame = codec.encode_as(features, level, encoding)
                    self._good.append(
                        pb.InferRequest(
                            model=bundle.metadata.name,
                            version=bundle.metadata.version[:8],
                            level=level,
                            encoding=pb.Encoding.ValueType(encoding.value),
                            samples=count,
                            payload=frame.payload,
                        )
                    )
        self.valid = self._good[0]

    def next(self) -> pb.InferRequest:
        """A valid request with one to three things spoilt."""
        message = pb.InferRequest()
        message.CopyFrom(self._good[int(self._rng.integers(len(self._good)))])
        for _ in range(int(self._rng.integers(1, 4))):
            self._spoil(message)
        return message

    def _spoil(self, message: pb.InferRequest) -> None:
        kind = int(self._rng.integers(12))
        number = NUMBERS[int(self._rng.integers(len(NUMBERS)))]
        payload = bytearray(message.payload)
        if kind == 0:
            message.level = number
        elif kind == 1:
            message.encoding = number % 2**31  # type: ignore[assignment]
        elif kind == 2:
            message.samples = number
        elif kind == 3:
            message.cloud_level = number
        elif kind == 4:
            message.top_k = number
        elif kind == 5:
            message.model = ("", "other", "x" * 500, "mnist-binary-paper\n")[number % 4]
        elif kind == 6:
            message.version = ("", "0", "00000000", "zz" * 40)[number % 4]
        elif kind == 7:
            message.payload = self._rng.bytes(int(self._rng.integers(0, 300)))
        elif kind == 8:
            message.payload = BOMBS[number % len(BOMBS)]
        elif kind == 9 and payload:
            message.payload = bytes(payload[: int(self._rng.integers(len(payload)))])
        elif kind == 10:
            message.payload = bytes(payload) + self._rng.bytes(int(self._rng.integers(1, 40)))
        elif payload:
            for _ in range(int(self._rng.integers(1, 5))):
                payload[int(self._rng.integers(len(payload)))] = int(self._rng.integers(256))
            message.payload = bytes(payload)


async def fuzz(address: str, frames: Frames, count: int, outcome: Outcome) -> None:
    """Send ``count`` frames through one stream, each followed by the valid request."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        right = (await stub.Infer(frames.valid)).results[0].label
        stream = stub.InferStream()
        for number in range(count):
            message = frames.next()
            for identity, sent in ((2 * number + 1, message), (2 * number + 2, frames.valid)):
                # One at a time: the samples that a frame claims to hold count against the queue.
                sent.id = identity
                await stream.write(sent)
                response = await stream.read()
                if not isinstance(response, pb.InferResponse) or response.id != identity:
                    outcome.wrong.append(f"no answer to {sent}")
                    return
                code = response.failure.code
                if sent is frames.valid:
                    if not response.results or response.results[0].label != right:
                        outcome.wrong.append(f"valid request: {response}")
                    continue
                outcome.statuses[code] += 1
                if code not in ALLOWED | {0}:
                    outcome.wrong.append(f"{sent}: {response.failure}")
            if number % 10_000 == 0:
                print(f"{number} of {count} frames", file=sys.stderr)
        await stream.done_writing()
        large = pb.InferRequest(payload=bytes(DEFAULT_MAX_MESSAGE_BYTES + 1))
        try:
            await stub.Infer(large)
            outcome.wrong.append("a message beyond the limit was answered")
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                outcome.wrong.append(f"a message beyond the limit: {error.code()}")


def run(count: int, seed: int) -> Outcome:
    """Fuzz a server process of its own with ``count`` frames."""
    outcome = Outcome()
    frames = Frames(read_bundle(bundle_path(MODEL)), seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server("--model", MODEL, log=Path(folder) / "log") as server,
    ):
        process = psutil.Process(server.process.pid)
        asyncio.run(fuzz(server.address, frames, min(count, 1000), outcome))
        outcome.memory_before = process.memory_info().rss
        if count > 1000:
            asyncio.run(fuzz(server.address, frames, count - 1000, outcome))
        outcome.memory_after = process.memory_info().rss
        if server.process.poll() is not None:
            outcome.wrong.append("the server ended")
        if "Traceback" in (Path(folder) / "log").read_text():
            outcome.wrong.append("there is a traceback in the server's log")
    return outcome


def main() -> None:
    """Fuzz and say what became of the frames; status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcome = run(options.frames, options.seed)
    for code, times in sorted(outcome.statuses.items()):
        name = next(status.name for status in grpc.StatusCode if status.value[0] == code)
        print(f"{name:20} {times}")
    grown = (outcome.memory_after - outcome.memory_before) / 2**20
    print(f"memory of the server grew by {grown:.1f} MiB")
    for wrong in outcome.wrong[:10]:
        print(f"wrong: {wrong}")
    sys.exit(1 if outcome.wrong else 0)


if __name__ == "__main__":
    main()
