"""Our images: built as docs/deploy.md says, and measured."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path

from tests.containers.engine import Engine
from tests.containers.progress import timed
from tests.containers.stand_ins import base_image
from tests.support.processes import ROOT

TAG = "0.1.0"
BUILD_S = 3600.0  # a limit, for one image
RAY = f"taper/ray:{TAG}"
TOOLS = "taper-test/network-tools"
# In the order of the files: some builders make all stages before the one that is asked for.
BUILDS = {"device": ("device", "agent"), "cloud": ("cloud", "operations")}
IMAGES = tuple(f"taper/{target}:{TAG}" for targets in BUILDS.values() for target in targets)


def build(engine: Engine, pool: Executor, ray: bool = False, root: Path = ROOT) -> None:
    """Build the images of the checkout ``root``, Ray's only if it is asked for.

    ``pool`` builds the files side by side.
    """

    def images(name: str) -> None:
        for target in (*BUILDS[name], "ray") if ray and name == "cloud" else BUILDS[name]:
            build_target(engine, name, target, root)

    list(pool.map(images, BUILDS))


def build_target(engine: Engine, name: str, target: str, root: Path) -> None:
    """Build a target of ``NAME.Dockerfile`` as ``taper/TARGET:TAG``."""
    words = ["--file", str(root / "deploy/docker" / f"{name}.Dockerfile"), "--target", target]
    words += ["--network", "host"] if engine.own else []
    with timed(f"  {name}.Dockerfile, {target}"):
        words += ["--tag", f"taper/{target}:{TAG}", str(root)]
        engine.docker("build", *words, seconds=BUILD_S)


def rename(engine: Engine, before: str, after: str) -> None:
    """Give our images of one tag another tag as well."""
    for image in IMAGES:
        name = image.partition(":")[0]
        engine.docker("tag", f"{name}:{before}", f"{name}:{after}")


def build_tools(engine: Engine) -> None:
    """Build an image with ``tc`` and ``iptables``, which no image that is deployed has."""
    install = "apt-get update && apt-get install --yes --no-install-recommends iproute2 iptables"
    network = ["--network", "host"] if engine.own else []
    text = f"FROM {base_image()}\nRUN {install}\n"
    engine.docker("build", *network, "--tag", TOOLS, "-", text=text)


def size_mb(engine: Engine, image: str) -> float:
    """What an image adds to the base image, in MB."""
    sizes = [
        int(engine.docker("image", "inspect", "--format", "{{.Size}}", name))
        for name in (image, base_image())
    ]
    return (sizes[0] - sizes[1]) / 1e6
