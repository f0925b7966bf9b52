"""Images: what is in them, who runs them, how they end."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.containers.engine import Engine
from tests.containers.images import IMAGES, size_mb
from tests.support.processes import ROOT

DEVICE, CLOUD = "taper/device:0.1.0", "taper/cloud:0.1.0"
RESTRICTED = ("--read-only", "--cap-drop", "ALL")
HARDENED = (*RESTRICTED, "--network", "none")
PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", re.MULTILINE)
SECRETS = ("password", "secret", "token", "BEGIN PRIVATE KEY")


def inspect(engine: Engine, image: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(engine.docker("image", "inspect", image))
    return found[0]


@pytest.mark.parametrize(("image", "limit_mb"), [(DEVICE, 110.0), (CLOUD, 160.0)])
def test_images_are_small(engine: Engine, image: str, limit_mb: float) -> None:
    assert size_mb(engine, image) <= limit_mb


@pytest.mark.parametrize("image", IMAGES)
def test_images_are_labelled_and_run_as_a_user_of_their_own(engine: Engine, image: str) -> None:
    settings = inspect(engine, image)["Config"]
    assert settings["User"] in ("10001:10001", "10002:10002")
    labels = {name.rpartition(".")[2]: value for name, value in settings["Labels"].items()}
    assert labels["version"] == image.partition(":")[2]
    assert labels["licenses"] == "Apache-2.0"
    assert labels["title"] == image.partition(":")[0].replace("/", " ")


@pytest.mark.parametrize("image", IMAGES)
def test_no_secret_is_in_an_image(engine: Engine, image: str) -> None:
    told = engine.docker("history", "--no-trunc", image) + json.dumps(inspect(engine, image))
    assert not [word for word in SECRETS if word.lower() in told.lower()]


@pytest.mark.parametrize(
    ("image", "modules"),
    [(DEVICE, ("pip", "setuptools", "pydantic", "typer", "pygments", "uvloop", "torch", "cloud")),
     (CLOUD, ("pip", "setuptools", "torch", "pyarrow", "nicegui", "device", "matplotlib"))],
)  # fmt: skip
def test_images_do_not_have_what_their_programs_do_not_use(
    engine: Engine, image: str, modules: tuple[str, ...]
) -> None:
    code = f"import importlib.util as u; print([m for m in {modules} if u.find_spec(m)])"
    words = ["run", "--rm", *HARDENED, "--workdir", "/", "--entrypoint", "python", image]
    assert engine.docker(*words, "-c", code) == "[]"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_the_packages_of_its_lock(engine: Engine, image: str) -> None:
    """Those are what ``make sbom`` lists."""
    lock = image.partition(":")[0].rpartition("/")[2]
    text = (ROOT / "deploy/requirements" / f"{lock}.txt").read_text()
    wanted = {(canonicalize_name(name), version) for name, version in PINNED.findall(text)}
    code = "import importlib.metadata as m; "
    code += "print(*(f'{one.name}=={one.version}' for one in m.distributions()), sep='\\n')"
    words = ["run", "--rm", *HARDENED, "--entrypoint", "/opt/taper/bin/python", image]
    found = {(canonicalize_name(name), version) for name, version in PINNED.findall(
        engine.docker(*words, "-I", "-c", code)
    )}  # fmt: skip
    assert {name for name, _ in found - wanted} == {"taper-split"}
    assert wanted <= found


@pytest.mark.parametrize("image", [DEVICE, CLOUD])
def test_the_compiled_kernels_run(engine: Engine, image: str) -> None:
    words = ["run", "--rm", *HARDENED, "--entrypoint", "python", image]
    assert "numpy" not in engine.docker(*words, "-m", "shared.packed").splitlines()[0]


@pytest.mark.parametrize("front", ["python", "native"])
def test_a_server_is_healthy_answers_and_ends_when_it_is_asked_to(
    engine: Engine, front: str
) -> None:
    container = engine.docker("run", "--detach", *HARDENED, "--env", f"TAPER_FRONT={front}", CLOUD)
    try:
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s:
            health = engine.docker("inspect", "--format", "{{.State.Health.Status}}", container)
            if health == "healthy":
                break
            time.sleep(0.3)
        assert health == "healthy"
        beside = ("--rm", *RESTRICTED, "--network", f"container:{container}")
        client = ("device.client", "--server", "127.0.0.1:50051", "--fraction", "0.3", "--no-exit")
        engine.docker("run", *beside, DEVICE, *client)  # an error unless every sample is answered
        began_s = time.monotonic()
        engine.docker("stop", "--time", "20", container)
        assert time.monotonic() - began_s < 15
        assert engine.docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
    finally:
        engine.docker("rm", "--force", "--volumes", container)
