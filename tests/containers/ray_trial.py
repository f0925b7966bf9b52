"""Ray Serve on two machines, each a container: a worker is killed under load, another one joins."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import yaml

from protos.split.v1 import split_pb2_grpc
from shared.protocol.messages import model_request
from tests.containers.engine import Engine, EngineError, lines
from tests.containers.trial import AnyWidth
from tests.support.devices import MODEL, load, progress
from tests.support.processes import ROOT

FILE = ROOT / "deploy/ray/compose.yaml"
SETTINGS = ROOT / "deploy/ray/serve_config.yaml"
PROJECT = "cluster"
REPLICA = "ray::ServeReplica:taper"
START_S = 180.0
TIMEOUT_S = 60.0
STREAMS = 3  # of devices, for which Ray wants one replica


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: its container, and where its ingress listens."""

    engine: Engine
    container: str

    @property
    def address(self) -> str:
        """HOST:PORT in the cluster's network, which this machine reaches as well."""
        told = json.loads(self.engine.docker("inspect", self.container))[0]
        (network,) = told["NetworkSettings"]["Networks"].values()
        return f"{network['IPAddress']}:50051"

    def replicas(self) -> int:
        """How many replicas run on it; 0 when it is down."""
        with suppress(EngineError):
            return self.engine.docker("top", self.container, "-eo", "pid,args").count(REPLICA)
        return 0

    def answers(self) -> bool:
        """Whether its ingress answers for the model."""
        with grpc.insecure_channel(self.address) as channel:
            try:
                split_pb2_grpc.SplitInferenceStub(channel).GetModel(model_request(MODEL), timeout=5)
            except grpc.RpcError:
                return False
        return True


@dataclass(frozen=True)
class Cluster:
    """A running cluster."""

    engine: Engine
    words: tuple[str, ...]

    def nodes(self, service: str) -> list[Node]:
        """The containers of ``head`` or ``worker``, the oldest first."""
        told = self.engine.run(*self.words, "ps", "--quiet", service)
        made = [
            (self.engine.docker("inspect", "--format", "{{.Created}}", one), one)
            for one in lines(told)
        ]
        return [Node(self.engine, container) for _, container in sorted(made)]

    def deploy(self, least: int, most: int) -> None:
        """``serve deploy`` with the shipped settings but for the numbers of replicas."""
        settings = yaml.safe_load(SETTINGS.read_text())
        (application,) = settings["applications"]
        (deployment,) = application["deployments"]
        deployment["autoscaling_config"] |= {
            "min_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": STREAMS,
            "upscale_delay_s": 1,
            "downscale_delay_s": 5,
        }
        (head,) = self.nodes("head")
        script = "cat > /tmp/config.yaml && serve deploy /tmp/config.yaml"
        words = ["exec", "--interactive", head.container, "sh", "-c", script]
        self.engine.docker(*words, text=yaml.safe_dump(settings))


@contextmanager
def cluster(engine: Engine, folder: Path) -> Iterator[Cluster]:
    """A head and a worker with two replicas, one on each; removed at the end."""
    words = [*engine.compose_words(), "--project-name", PROJECT, "--file", str(FILE)]
    made = Cluster(engine, tuple(words))
    try:
        engine.run(*words, "up", "--detach", "--no-build")
        made.deploy(least=2, most=3)
        end_s = time.monotonic() + START_S
        nodes = [*made.nodes("head"), *made.nodes("worker")]
        while not all(node.replicas() == 1 and node.answers() for node in nodes):
            if time.monotonic() > end_s:
                raise EngineError(f"replicas: {[node.replicas() for node in nodes]}")
            time.sleep(1)
        yield made
    finally:
        with suppress(EngineError):
            (folder / "ray.log").write_text(engine.run(*words, "logs", "--no-color"))
        engine.run(*words, "down", "--volumes", "--timeout", "5")


@dataclass(frozen=True)
class RayOutcome:
    """What became of the samples, and how many replicas ran where.

    joined    replicas on the machine that joined, under load
    most      replicas on all machines under the load of many devices
    at_rest   the same some time after that load
    """

    nodes: int
    samples: int
    failed: int
    failures: tuple[str, ...]
    joined: int
    most: int
    at_rest: int


async def ray_trial(running: Cluster) -> RayOutcome:
    """Kill the worker under load, let a second one join, add load, take it away."""
    (head,), (worker,) = running.nodes("head"), running.nodes("worker")
    nodes = sum(node.replicas() > 0 for node in (head, worker))
    servers = head.address, worker.address
    tallies = AnyWidth(), AnyWidth(), AnyWidth()
    async with (
        load(*servers, devices=2, timeout_s=TIMEOUT_S, tally=tallies[0]) as first,
        load(*reversed(servers), devices=2, timeout_s=TIMEOUT_S, tally=tallies[1]) as second,
    ):
        await progress(first, 200)
        await progress(second, 200)
        await asyncio.to_thread(running.engine.docker, "kill", worker.container)
        await progress(first, 200, 120)
        await progress(second, 200, 120)
        words = [*running.words, "up", "--detach", "--no-build", "--scale", "worker=2"]
        await asyncio.to_thread(running.engine.run, *words)
        joining = (await asyncio.to_thread(running.nodes, "worker"))[-1]
        everywhere = [head, *await asyncio.to_thread(running.nodes, "worker")]
        async with load(head.address, devices=6, timeout_s=TIMEOUT_S, tally=tallies[2]) as many:
            await progress(many, 100, 120)
            await _reached([joining], 1)
            most = await _reached(everywhere, 3)
            joined = await _reached([joining], 1)
            await progress(many, 200, 120)
        await progress(first, 100)
        await progress(second, 100)
    at_rest = await _reached(everywhere, 2)
    return RayOutcome(
        nodes,
        sum(tally.asked for tally in tallies),
        sum(count != 1 for tally in tallies for count in tally.answers)
        + sum(tally.wrong for tally in tallies),
        tuple(failure for tally in tallies for failure in tally.failures[:3]),
        joined,
        most,
        at_rest,
    )


async def _reached(nodes: list[Node], wanted: int) -> int:
    """The number of replicas on ``nodes`` once it is ``wanted``, or what it is when time is up."""
    end_s = time.monotonic() + START_S
    while True:
        counts = [await asyncio.to_thread(node.replicas) for node in nodes]
        if sum(counts) == wanted or time.monotonic() > end_s:
            return sum(counts)
        await asyncio.sleep(0.5)
