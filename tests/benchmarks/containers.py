"""``python -m tests.benchmarks.containers``: sizes of images, and the deployment in containers.

Starts ``deploy/compose.yaml``, and restarts, kills, pauses and cuts off its containers while 10,000
samples go through the proxy. Then a Ray cluster of two machines, each a container, loses its worker
under load and gets another. Images are built first, with a container engine that is started for
this if the machine runs none (as root, on Debian).
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.harness import Check, Report, main, table
from tests.containers.__main__ import VARIABLE
from tests.containers.__main__ import main as with_images
from tests.containers.engine import Engine
from tests.containers.images import IMAGES, size_mb
from tests.containers.ray_trial import cluster, ray_trial
from tests.containers.stack import stack
from tests.containers.trial import trial


def run(full: bool) -> Report:
    """Measure with the engine that is in the environment."""
    engine = Engine(own=os.environ[VARIABLE] == "own")
    sizes = {image: round(size_mb(engine, image), 1) for image in IMAGES}
    with (
        tempfile.TemporaryDirectory(prefix="taper-stack-") as folder,
        stack(engine, Path(folder)) as running,
    ):
        outcome = asyncio.run(trial(running))
        up_s = round(running.up_to_healthy_s, 1)
    with (
        tempfile.TemporaryDirectory(prefix="taper-ray-") as folder,
        cluster(engine, Path(folder)) as nodes,
    ):
        ray = asyncio.run(ray_trial(nodes))
    audit = outcome.telemetry
    checks = [
        Check("compose_failed", outcome.failed, "samples", 0, "lower"),
        Check("compose_telemetry_lost", audit.lost + audit.duplicate, "messages", 0, "lower"),
        Check("device_image_mb", sizes["taper/device:0.1.0"], "MB", 110, "lower"),
        Check("server_image_mb", sizes["taper/cloud:0.1.0"], "MB", 160, "lower"),
        Check("ray_nodes", ray.nodes, "machines", 2, "higher"),
        Check("ray_node_loss_failed", ray.failed, "samples", 0, "lower"),
        Check("up_to_healthy_s", up_s, "s", 60, "lower"),
    ]
    results = {
        "images_mb": sizes,
        "trial": asdict(outcome),
        "ray": asdict(ray),
        "up_to_healthy_s": up_s,
    }
    rows = [(event,) for event in outcome.events]
    title = f"{outcome.samples} samples, the slowest {outcome.slowest_s:.1f} s"
    tables = [
        table(title, ("event",), rows),
        table("above the base image", ("image", "MB"), [(k, str(v)) for k, v in sizes.items()]),
    ]
    return Report(results, checks, tables)


if __name__ == "__main__":
    if VARIABLE in os.environ:
        main("containers", "Sizes of images, and the deployment in containers.", run)
    else:
        words = ["--ray", sys.executable, "-m", "tests.benchmarks.containers", *sys.argv[1:]]
        sys.exit(with_images(words))
