"""What must not hold up a stop or a reload, and what a stop must not cut off."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.split.v1 import split_pb2 as pb
from protos.split.v1 import split_pb2_grpc
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import read_bundle
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec
from shared.protocol.messages import Request, model_request, request_to_message
from tests.support.http2 import PREFACE, SETTINGS, Http2, frame
from tests.support.processes import ROOT, environment, start_server
from tests.support.served import PATIENCE_S, eventually, serve

MODEL = "mnist-binary-paper"
HEAVY, LARGEST_BATCH = "cifar10-binary", 1024
DRAIN_S = 60  # so long that a stop that waits for its end is noticed
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def request() -> pb.InferRequest:
    bundle = read_bundle(bundle_path(MODEL))
    images, _ = sample_digits()
    features = DeviceHalf(bundle).run(images[:1][..., None], 2)
    return request_to_message(Request(1, MODEL, "", FeatureCodec(bundle).encode(features, 2)))


def watch_without_reading(address: str, name: str) -> Http2:
    """A watcher of health to which the server may not send a byte of an answer."""
    client = Http2(address, "/grpc.health.v1.Health/Watch", window=1)
    stream, head = client.open()
    body = health_pb2.HealthCheckRequest(service=name).SerializeToString()
    client.send(head + client.message(stream, body, last=True))
    return client


def test_watchers_hold_up_neither_a_reload_nor_a_stop(tmp_path: Path) -> None:
    shutil.copy(bundle_path(MODEL), tmp_path)
    flags = ("--models", str(tmp_path), "--models-poll-seconds", "0.1")
    with serve(*flags, "--drain-seconds", str(DRAIN_S)) as served:
        deaf = [watch_without_reading(served.address, MODEL) for _ in range(3)]
        seen: list[int] = []
        with grpc.insecure_channel(served.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watching = health.Watch(health_pb2.HealthCheckRequest(service="mnist-binary"))
            seen.append(next(watching).status)
            shutil.copy(bundle_path("mnist-binary"), tmp_path)
            seen.append(next(watching).status)
            stub = split_pb2_grpc.SplitInferenceStub(channel)
            assert stub.GetModel(model_request("mnist-binary")).model == "mnist-binary"
            began_s = time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            seen += [one.status for one in watching]
            assert served.process.wait(PATIENCE_S) == 0
            assert time.monotonic() - began_s < DRAIN_S / 2
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert seen == [unknown, SERVING, NOT_SERVING]
        for client in deaf:
            client.close()


def test_a_stop_cancels_no_call() -> None:
    message = request()
    with serve("--model", MODEL) as served:
        outcomes: Counter[str] = Counter()
        stop = threading.Event()

        def ask() -> None:
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(served.address, options) as channel:
                stub = split_pb2_grpc.SplitInferenceStub(channel)
                while not stop.is_set():
                    try:
                        stub.Infer(message, timeout=PATIENCE_S)
                        outcomes["OK"] += 1
                    except grpc.RpcError as error:
                        outcomes[error.code().name] += 1
                        time.sleep(0.01)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: outcomes["OK"] > 50)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
        eventually(lambda: outcomes["UNAVAILABLE"] > 0)
        stop.set()
        for thread in threads:
            thread.join()
        # Afterwards there is nobody to ask; before that every call is answered.
        assert set(outcomes) == {"OK", "UNAVAILABLE"}


def test_a_stop_that_waits_for_nobody_while_a_batch_runs() -> None:
    """The native front crashed when the batch was done, as answers that nobody wants count too."""
    bundle = read_bundle(bundle_path(HEAVY))
    features = DeviceHalf(bundle).run(np.zeros((LARGEST_BATCH, 32, 32, 3), np.uint8), 0)
    frame = FeatureCodec(bundle).encode_as(features, 0, Encoding.RAW)
    message = request_to_message(Request(1, HEAVY, "", frame))
    flags = ("--max-batch", str(LARGEST_BATCH), "--slo-ms", "60000", "--drain-seconds", "0")
    ends = []
    with (
        serve("--model", HEAVY, *flags) as served,
        grpc.insecure_channel(served.address) as channel,
    ):

        def ask() -> None:
            """Call again and again, so that a batch runs whenever the server stops."""
            stub = split_pb2_grpc.SplitInferenceStub(channel)
            try:
                while True:
                    stub.Infer(message, timeout=PATIENCE_S)
            except grpc.RpcError as error:
                ends.append(error.code())

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda: served.sample("taper_queue_requests") > 0)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
        for thread in threads:
            thread.join()
    assert len(ends) == len(threads)
    assert set(ends) <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


def test_a_server_without_a_model_does_not_serve_until_there_is_one(tmp_path: Path) -> None:
    flags = ("--models", str(tmp_path), "--models-poll-seconds", "0.1")
    with serve(*flags) as served, grpc.insecure_channel(served.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def status() -> int:
            return int(health.Check(health_pb2.HealthCheckRequest()).status)

        assert status() == NOT_SERVING
        shutil.copy(bundle_path(MODEL), tmp_path)
        eventually(lambda: status() == SERVING)
        (tmp_path / bundle_path(MODEL).name).unlink()
        eventually(lambda: status() == NOT_SERVING)


@pytest.mark.timeout(180)
def test_a_worker_that_hangs_is_replaced_and_holds_up_no_stop() -> None:
    with serve("--model", MODEL, "--workers", "2", "--drain-seconds", "1") as served:
        first, second = psutil.Process(served.process.pid).children()
        os.kill(first.pid, signal.SIGSTOP)
        eventually(lambda: not first.is_running())
        eventually(lambda: served.sample("taper_workers") == 2)
        assert served.sample("taper_worker_restarts_total") == 1
        os.kill(second.pid, signal.SIGSTOP)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
        assert not second.is_running()


def test_idle_connections_make_room_for_new_clients(tmp_path: Path) -> None:
    log = tmp_path / "log"
    limited = ["bash", "-c", 'ulimit -n 256; exec "$@"', "bash"]
    command = [sys.executable, "-m", "cloud.server", "--host", "127.0.0.1", "--port", "0"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*limited, *command, "--model", MODEL],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    sockets: list[socket.socket] = []
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        host, _, port = address.rpartition(":")
        for _ in range(300):
            client = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
            client.sendall(PREFACE + frame(SETTINGS, 0, 0))
            sockets.append(client)
        message = request()

        def answered() -> bool:
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(address, options) as channel:
                try:
                    split_pb2_grpc.SplitInferenceStub(channel).Infer(message, timeout=2)
                except grpc.RpcError as error:
                    sys.stderr.write(f"{error.code().name}: {error.details()}\n")
                    return False
            return True

        try:
            eventually(answered)
        finally:
            sys.stderr.write(log.read_text())
        assert all(answered() for _ in range(5))
        assert "idle connections were closed" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        for client in sockets:
            client.close()
        process.kill()
        process.communicate()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_port_that_is_taken_is_named_with_the_reason() -> None:
    with start_server("--model", MODEL) as server:
        port = server.address.rpartition(":")[2]
        for more in ((), ("--workers", "2")):
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "cloud.server",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    port,
                    *more,
                ],
                capture_output=True,
                cwd=ROOT,
                env=environment(),
                text=True,
                timeout=PATIENCE_S,
            )
            assert done.returncode == 2
            assert f"127.0.0.1:{port} (Address already in use)" in done.stderr


def test_a_server_listens_on_ipv6() -> None:
    command = [sys.executable, "-m", "cloud.server", "--host", "::1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model", MODEL],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        assert address.startswith("[::1]:")
        with grpc.insecure_channel(address) as channel:
            split_pb2_grpc.SplitInferenceStub(channel).Infer(request(), timeout=PATIENCE_S)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
