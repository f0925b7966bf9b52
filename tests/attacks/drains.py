"""Drain a loaded server again and again: ``python -m tests.attacks.drains --rounds 20``.

Each round loads a native front with streams, second looks, large calls that are taken back, whole
images, calls that Python answers and hostile clients, and ends it by SIGTERM in the midst of it. It
must end with status 0, without a traceback and without a sanitizer's report.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc
from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from shared.protocol.messages import Looks, Request, request_to_message
from tests.support.hostile import attacking, hang_up, reset_streams
from tests.support.processes import ROOT, environment

MODEL = "mnist-binary-paper"  # has tables for every encoding
HEAVY, LARGE = "cifar10-binary", 256  # a batch of so many samples takes a good part of a second
END_S = 60.0
BAD = ("Traceback", "Sanitizer", "runtime error")
Images = npt.NDArray[np.uint8]
SERVER = (sys.executable, "-m", "cloud.server")


class Requests:
    """What clients send."""

    def __init__(self) -> None:
        digits = sample_digits()[0][..., None]
        self.first = _request(MODEL, digits[:1], 0, Encoding.CONTEXT, Looks(0, 5, 2**62))
        self.second = _request(MODEL, digits[:1], 5, Encoding.CONTEXT, Looks(earlier=1))
        self.zstd = _request(MODEL, digits[:1], 2, Encoding.ZSTD_DICT)
        self.large = _request(HEAVY, np.zeros((LARGE, 32, 32, 3), np.uint8), 0, Encoding.RAW)
        self.images = oip.ModelInferRequest(model_name=MODEL)
        self.images.inputs.add(name="image", datatype="UINT8", shape=[2, 28, 28, 1])
        self.images.raw_input_contents.append(digits[:2].tobytes())


def _request(
    model: str, images: Images, level: int, encoding: Encoding, looks: Looks | None = None
) -> pb.InferRequest:
    bundle = read_bundle(bundle_path(model))
    features = DeviceHalf(bundle).run(images, level)
    frame = FeatureCodec(bundle).encode_as(features, level, encoding)
    return request_to_message(Request(1, model, "", frame, looks=looks))


class Load:
    """Clients of a server, each in a thread, until the load ends."""

    def __init__(self, address: str, requests: Requests, rng: random.Random) -> None:
        self._requests = requests
        self._rng = rng
        self._stop = threading.Event()
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._stub = split_pb2_grpc.SplitInferenceStub(self._channel)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Load the server while the block runs."""
        work = (self._stream, self._stream, self._take_back, self._call, self._leave_to_python)
        threads = [threading.Thread(target=self._repeat, args=(one,)) for one in work]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._channel.close()
            for thread in threads:
                thread.join()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(grpc.RpcError, ValueError):  # the server, or the channel, ends
                work()

    def _stream(self) -> None:
        def requests() -> Iterator[pb.InferRequest]:
            for number in range(self._rng.randrange(1, 400)):
                for one in (self._requests.first, self._requests.second):
                    sent = pb.InferRequest()
                    sent.CopyFrom(one)
                    sent.id = number
                    yield sent
                if number % 50 == 0:
                    yield self._requests.large
                    yield self._requests.zstd

        for _ in self._stub.InferStream(requests()):
            if self._rng.random() < 0.002:
                return  # which cancels it

    def _take_back(self) -> None:
        calls = [self._stub.Infer.future(self._requests.large) for _ in range(4)]
        time.sleep(self._rng.random() * 0.02)
        for call in calls[1:]:
            call.cancel()
        calls[0].result()

    def _call(self) -> None:
        self._stub.Infer(self._requests.first)
        open_inference_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer(
            self._requests.images
        )

    def _leave_to_python(self) -> None:
        self._stub.GetModel(pb.GetModelRequest())
        for _ in self._stub.GetDevicePart(pb.GetDevicePartRequest()):
            pass
        self._stub.Infer(self._requests.zstd)
        with contextlib.suppress(grpc.RpcError):
            self._stub.Infer(pb.InferRequest(level=99))
        watching = health_pb2_grpc.HealthStub(self._channel).Watch(health_pb2.HealthCheckRequest())
        next(watching)
        if self._rng.random() < 0.5:
            watching.cancel()


def drain(command: Sequence[str], requests: Requests, rng: random.Random) -> str:
    """Start a server, load it, end it; what was wrong, or nothing."""
    flags = ["--host", "127.0.0.1", "--port", "0", "--front", "native", "--threads", "2"]
    flags += ["--model", MODEL, "--model", HEAVY, "--max-batch", rng.choice(("32", "1024"))]
    flags += ["--slo-ms", "60000", "--drain-seconds", rng.choice(("0", "0.2", "5"))]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as errors:
            server = subprocess.Popen(
                [*command, *flags],
                cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            if not line.startswith("listening on "):
                return f"did not start: {log.read_text()}"
            address = line.split()[-1]
            body = requests.first.SerializeToString()
            with (
                Load(address, requests, rng).running(),
                attacking(hang_up, address, [body]),
                attacking(reset_streams, address, [body]),
            ):
                time.sleep(0.3 + rng.random())
                if rng.random() < 0.5:
                    server.send_signal(signal.SIGTERM)
                    time.sleep(rng.random())
            server.send_signal(signal.SIGTERM)
            status = server.wait(END_S)
        except subprocess.TimeoutExpired:
            return "did not end"
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
        text = log.read_text()
    if status != 0 or any(word in text for word in BAD):
        return f"status {status}\n{text}"
    return ""


def main() -> None:
    """Drain servers; status 1 if anything was wrong with one."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", nargs=argparse.REMAINDER, default=SERVER, help="its command")
    options = parser.parse_args()
    wrong, requests = 0, Requests()
    for number in range(options.rounds):
        found = drain(options.server, requests, random.Random(options.seed + number))
        if found:
            wrong += 1
            print(f"round {number}: {found}")
    print(f"{options.rounds} drains, {wrong} of them wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
