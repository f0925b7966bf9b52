"""A real Ray Serve on this machine, with the settings that ship in ``deploy/ray``."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import yaml

from protos.split.v1 import split_pb2_grpc
from shared.protocol.messages import model_request
from tests.support.clouds import free_port
from tests.support.devices import CLOUD_FRACTION, MODEL
from tests.support.processes import ROOT, STOP_SECONDS, environment

SETTINGS = ROOT / "deploy" / "ray" / "serve_config.yaml"
VARIABLE = "TAPER_RAY"  # the environment that ray is installed in; ``make ray`` makes one
REPLICA = "ray::ServeReplica:taper"
START_S = 120.0


def ray_environment() -> Path | None:
    """The folder of the environment with ray in it, if there is one."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


@dataclass(frozen=True)
class RayServe:
    """A running ``serve run``: where devices connect to, and its process."""

    address: str
    process: subprocess.Popen[bytes]

    def replicas(self) -> list[psutil.Process]:
        """The replicas' processes, the oldest first."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if " ".join(child.cmdline()).startswith(REPLICA):
                    found.append(child)
            except psutil.Error:
                continue  # it has just ended
        return sorted(found, key=lambda child: child.pid)

    def cpu_s(self) -> float:
        """CPU time of all of Ray's processes so far."""
        root = psutil.Process(self.process.pid)
        total = 0.0
        for one in [root, *root.children(recursive=True)]:
            try:
                times = one.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total


@contextmanager
def ray_serve(
    folder: Path, environment_folder: Path, least: int, most: int, streams_a_replica: float
) -> Iterator[RayServe]:
    """``serve run`` with the shipped settings but for ports and numbers; answers when it yields."""
    settings = yaml.safe_load(SETTINGS.read_text())
    port = free_port()
    settings["http_options"]["port"] = free_port()
    settings["grpc_options"]["port"] = port
    (application,) = settings["applications"]
    application["runtime_env"]["env_vars"] |= {
        "TAPER_MODEL": MODEL,
        "TAPER_CLOUD_FRACTION": CLOUD_FRACTION,
    }
    (deployment,) = application["deployments"]
    deployment["autoscaling_config"] |= {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": streams_a_replica,
        "upscale_delay_s": 1,
    }
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(settings))
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            [environment_folder / "bin" / "serve", "run", str(path)],
            cwd=ROOT,
            env={**environment(), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
            stdout=log,
            stderr=log,
        )
    running = RayServe(f"127.0.0.1:{port}", process)
    try:
        _wait_until_it_answers(running, least, folder / "ray.log")
        yield running
    finally:
        left = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            for one in psutil.wait_procs(left, timeout=10)[1]:
                one.kill()


def _wait_until_it_answers(running: RayServe, replicas: int, log: Path) -> None:
    end_s = time.monotonic() + START_S
    while running.process.poll() is None and time.monotonic() < end_s:
        with grpc.insecure_channel(running.address) as channel:
            try:
                split_pb2_grpc.SplitInferenceStub(channel).GetModel(model_request(MODEL), timeout=5)
            except grpc.RpcError:
                time.sleep(0.5)
                continue
        if len(running.replicas()) >= replicas:
            return
        time.sleep(0.2)
    raise RuntimeError(log.read_text()[-4000:])
