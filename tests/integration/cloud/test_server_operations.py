"""What people who run the server rely on: metrics, health, models, drain, workers, tokens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.split.v1 import split_pb2_grpc
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.images.idx import write_idx
from shared.model.bundle import Bundle, make_bundle, read_bundle, write_bundle
from shared.protocol.messages import model_from_message, model_request
from tests.support.processes import ROOT, Finished, client_command, environment, run, run_client
from tests.support.served import PATIENCE_S, classify, eventually, serve

PAPER = "mnist-binary-paper"


def test_metrics_count_what_was_answered_and_refused() -> None:
    with serve("--model", PAPER, "--cloud-fraction", "0.5") as served:
        assert classify(served).document["summary"]["answered"] == 200
        assert served.sample("taper_requests_total", status="OK") == 200
        assert served.sample("taper_samples_total", model=PAPER, fraction="0.5") == 200
        assert served.sample("taper_cloud_fraction") == 0.5
        assert served.sample("taper_latency_seconds_count") == 200
        assert served.sample("taper_bytes_received_total") > 200 * 10
        assert served.sample("taper_streams") == 0
        missing = run_client("--model", "mnist-binary", "--server", served.address, "--no-exit")
        assert missing.status == 1, missing
        assert served.sample("taper_requests_total", status="NOT_FOUND") >= 1


def test_health_of_every_model_and_reflection() -> None:
    with serve() as served, grpc.insecure_channel(served.address) as channel:
        checks = health_pb2_grpc.HealthStub(channel)
        for name in ("", "taper.split.v1.SplitInference", PAPER, "mnist-binary"):
            answer = checks.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (listed,) = stub.ServerReflectionInfo(iter([request]))
        names = {service.name for service in listed.list_services_response.service}
        assert "taper.split.v1.SplitInference" in names


def test_models_of_a_folder_come_change_and_go(tmp_path: Path) -> None:
    good = bundle_path(PAPER)
    versions: list[tuple[str, ...]] = []

    def known(channel: grpc.Channel) -> tuple[str, ...]:
        stub = split_pb2_grpc.SplitInferenceStub(channel)
        try:
            return model_from_message(stub.GetModel(model_request(PAPER))).served_versions
        except grpc.RpcError:
            return ()

    flags = ("--models", str(tmp_path), "--models-poll-seconds", "0.1")
    with serve(*flags) as served, grpc.insecure_channel(served.address) as channel:
        assert known(channel) == ()
        shutil.copy(good, tmp_path / "one.safetensors")
        eventually(lambda: len(known(channel)) == 1)
        versions.append(known(channel))
        (tmp_path / "two.safetensors").write_bytes(good.read_bytes()[:5000])
        eventually(lambda: served.sample("taper_model_load_failures_total") >= 1)
        assert known(channel) == versions[0]
        write_bundle(other_version(), tmp_path / "two.safetensors")
        eventually(lambda: len(known(channel)) == 2)
        assert known(channel)[1] == versions[0][0]  # the newest file is the default
        (tmp_path / "two.safetensors").write_bytes(b"damaged in place")
        eventually(lambda: served.sample("taper_model_load_failures_total") >= 2)
        assert len(known(channel)) == 2  # what was loaded keeps serving
        (tmp_path / "two.safetensors").unlink()
        eventually(lambda: known(channel) == versions[0])
        assert classify(served).document["summary"]["answered"] == 200
        (tmp_path / "one.safetensors").unlink()
        eventually(lambda: known(channel) == ())


def other_version() -> Bundle:
    """The paper's bundle with one weight bit turned."""
    bundle = read_bundle(bundle_path(PAPER))
    tensors = {name: tensor.copy() for name, tensor in bundle.tensors.items()}
    name = next(name for name in tensors if name.endswith("classify.weight"))
    tensors[name].flat[0] ^= 1
    return make_bundle(bundle.metadata, tensors)


def test_a_rolling_restart_loses_nothing(tmp_path: Path) -> None:
    images, _ = sample_digits()
    write_idx(tmp_path / "many.idx", np.repeat(images, 20, axis=0))
    with serve("--model", PAPER) as first, serve("--model", PAPER) as second:
        servers = ("--server", first.address, "--server", second.address)
        words = (*servers, "--no-exit", "--input", str(tmp_path / "many.idx"))
        client = subprocess.Popen(
            client_command("--model", PAPER, *words, "--output", "json"),
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            eventually(lambda: first.sample("taper_requests_total", status="OK") >= 100)
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(PATIENCE_S) == 0
            out, _ = client.communicate(timeout=100)
        finally:
            client.kill()
            client.communicate()
        assert client.returncode == 0
        assert json.loads(out)["summary"]["answered"] == 4000
        assert second.sample("taper_requests_total", status="OK") > 0


def test_a_worker_that_dies_is_replaced_and_numbers_are_of_all() -> None:
    with serve("--model", PAPER, "--workers", "2") as served:
        workers = psutil.Process(served.process.pid).children()
        assert len(workers) == 2
        assert classify(served).document["summary"]["answered"] == 200
        assert served.sample("taper_requests_total", status="OK") == 200
        assert served.sample("taper_workers") == 2
        os.kill(workers[0].pid, signal.SIGKILL)
        eventually(lambda: served.sample("taper_worker_restarts_total") == 1)
        eventually(lambda: served.sample("taper_workers") == 2)
        assert classify(served).document["summary"]["answered"] == 200
        assert served.sample("taper_requests_total", status="OK") == 400
        port = served.address.rpartition(":")[2]
        second = run([sys.executable, "-m", "cloud.server", "--host", "127.0.0.1", "--port", port])
        assert second.status == 2, second
        assert "--port" in second.err
        alive = psutil.Process(served.process.pid).children()
    assert not any(worker.is_running() for worker in alive)


def test_a_token_is_needed_where_there_is_a_token_file(tmp_path: Path) -> None:
    secret = "a-token-of-more-than-16"
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# devices\ngate-1 {secret}\n")
    with serve("--model", PAPER, "--token-file", str(tokens)) as served:
        assert classify(served, "--token", secret).status == 0
        for flags in ((), ("--token", "another-token-that-is-wrong")):
            refused = classify(served, *flags)
            assert refused.status == 1, refused
            assert "refuses the token" in refused.err
            assert len(refused.err.strip().splitlines()) == 1
        tokens.write_text("gate-1 a-new-token-of-16-and-more\n")
        again = ("--token", "a-new-token-of-16-and-more", "--wait", "5")
        eventually(lambda: classify(served, *again).status == 0)


def test_a_flag_beats_the_environment_and_that_beats_a_file(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text("slo_ms = 10.0\nmax_batch = 8\nmax_queue = 100\n")

    def settings(*flags: str, **variables: str) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "cloud.server", "--print-config", *flags],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**environment(), **variables},
            timeout=60,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    chosen = settings(
        *("--config", str(path), "--slo-ms", "30"), TAPER_SLO_MS="20", TAPER_MAX_BATCH="16"
    )
    assert {"slo_ms = 30.0", "max_batch = 16", "max_queue = 100"} <= set(chosen.out.splitlines())
    path.write_text(chosen.out)
    assert settings("--config", str(path)).out == chosen.out
    wrong = {
        "--slo-ms": settings("--slo-ms", "-1"),
        "TAPER_MAX_BATCH": settings(TAPER_MAX_BATCH="many"),
        "--tls-cert": settings("--tls-cert", "cert.pem"),
    }
    path.write_text("slo = 3\n")
    wrong["'slo'"] = settings("--config", str(path))
    path.write_text("slo_ms = 0\n")
    wrong["slo_ms in"] = settings("--config", str(path))
    for part, done in wrong.items():
        assert done.status == 2, part
        assert part in done.err, done.err
        assert len(done.err.strip().splitlines()) == 1, done.err


def test_log_lines_as_json(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "cloud.server", "--host", "127.0.0.1", "--port", "0"]
    flags = ["--log-format", "json", "--log-level", "debug", "--models", str(tmp_path)]
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, *flags], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=file
        )
        assert process.stdout
        process.stdout.readline()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        process.stdout.close()
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    events = [json.loads(line) for line in lines]
    refused = [event for event in events if event["event"] == "bundle refused"]
    assert refused[0]["file"] == "bad.safetensors"
    assert {"level", "logger", "timestamp"} <= set(refused[0])


@pytest.mark.parametrize("flag", ["--model", "--models", "--token-file"])
def test_what_is_not_there_is_named(flag: str) -> None:
    done = run([sys.executable, "-m", "cloud.server", "--port", "0", flag, "nowhere.safetensors"])
    assert done.status in (2, 1)
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert "nowhere" in done.err
