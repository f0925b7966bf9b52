"""Compares our Open Inference Protocol with other servers, with one whole image per request.

All servers answer the same digits with label and probabilities, each with one process on one core;
the peers run a float network of our accuracy in ONNX Runtime.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil

from protos.inference import open_inference_pb2 as pb
from shared.bundles import DEFAULT_MODEL
from shared.data.sample import sample_digits
from tests.benchmarks.http_load import HttpCaller
from tests.benchmarks.load import Caller
from tests.benchmarks.peer_servers.environments import KSERVE, LITSERVE, Peer, python_of
from tests.benchmarks.peer_servers.network import network_file
from tests.support.clouds import free_port
from tests.support.processes import environment

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
OURS = "ours, Open Inference Protocol"
KSERVE_NAME, LITSERVE_NAME = "kserve, gRPC", "litserve, HTTP"
IN_FLIGHT = 16
START_S = 90.0
LEAST_RIGHT = 0.97  # least share of right answers with which a server is measured

Rate = Callable[[float], float]  # seconds of load -> answers a second


@dataclass(frozen=True)
class Contender:
    """A server whose answers were checked."""

    pid: int
    address: str
    rate: Rate


def requests(model: str) -> list[bytes]:
    """Make a ModelInferRequest for each of the shipped digits."""
    made = []
    for image in sample_digits()[0]:
        message = pb.ModelInferRequest(model_name=model, raw_input_contents=[image.tobytes()])
        message.inputs.add(name="image", datatype="UINT8", shape=(1, *image.shape, 1))
        made.append(message.SerializeToString())
    return made


@contextmanager
def contenders(pid: int, address: str, cpu: int | None) -> Iterator[dict[str, Contender]]:
    """Yield our server at ``address`` and every peer that could be installed and started."""
    with ExitStack() as stack:
        found = {OURS: Contender(pid, address, _grpc_rate(address, requests(DEFAULT_MODEL)))}
        network = network_file()
        for name, peer in ((KSERVE_NAME, KSERVE), (LITSERVE_NAME, LITSERVE)):
            python = python_of(peer) if network else None
            if python and network:
                found[name] = stack.enter_context(_served(peer, python, network[0], cpu))
        yield found


@contextmanager
def _served(peer: Peer, python: Path, network: Path, cpu: int | None) -> Iterator[Contender]:
    """Run a peer's program; yields it once its answers are right."""
    ports = [free_port(), free_port()] if peer is KSERVE else [free_port()]
    address = f"127.0.0.1:{ports[0]}"
    command = [str(python), str(peer.program), str(network), *map(str, ports)]
    if cpu is not None:
        command = ["taskset", "--cpu-list", str(cpu), *command]
    log = network.parent / f"{peer.name}.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment())
    try:
        made = _grpc_rate if peer is KSERVE else _http_rate
        bodies = requests("digits") if peer is KSERVE else _json_bodies()
        rate = _once_up(process, lambda: made(address, bodies), log)
        yield Contender(process.pid, address, rate)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def _once_up(process: subprocess.Popen[bytes], make: Callable[[], Rate], log: Path) -> Rate:
    end_s = time.monotonic() + START_S
    while True:
        try:
            return make()
        except (OSError, grpc.RpcError) as error:
            if process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"a peer does not start, see {log}") from error
        time.sleep(0.5)


def _grpc_rate(address: str, bodies: Sequence[bytes]) -> Rate:
    with grpc.insecure_channel(address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(MODEL_INFER)
        _check([_label(call(body, timeout=10)) for body in bodies])

    def measure(seconds: float) -> float:
        with contextlib.closing(Caller(address, MODEL_INFER, bodies)) as caller:
            load = caller.unary(IN_FLIGHT, seconds)
        return load.answered / load.seconds

    return measure


def _label(data: bytes) -> int:
    answer = pb.ModelInferResponse.FromString(data)
    place = [output.name for output in answer.outputs].index("label")
    return int(np.frombuffer(answer.raw_output_contents[place], "<i8")[0])


def _json_bodies() -> list[bytes]:
    digits = sample_digits()[0]
    return [
        json.dumps({"image": base64.b64encode(image.tobytes()).decode()}).encode()
        for image in digits
    ]


def _http_rate(address: str, bodies: Sequence[bytes]) -> Rate:
    labels = []
    for body in bodies:
        asked = urllib.request.Request(
            f"http://{address}/predict", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            labels.append(int(json.load(answer)["label"]))
    _check(labels)

    def measure(seconds: float) -> float:
        with contextlib.closing(HttpCaller(address, "/predict", bodies, IN_FLIGHT)) as caller:
            load = caller.run(seconds)
        return load.answered / load.seconds

    return measure


def _check(labels: Sequence[int]) -> None:
    right = float(np.mean(np.array(labels) == sample_digits()[1]))
    if right < LEAST_RIGHT:
        raise RuntimeError(f"a server gives wrong answers: {right:.1%} of the digits are right")
    sys.stderr.write(f"{right:.1%} of {len(labels)} digits are right\n")
