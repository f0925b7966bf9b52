"""Images of other projects, made of Debian's packages where none can be pulled.

They have the names that our files say, so that these are used as they are; the programs are
Debian's, of other versions. There is none of Grafana, which Debian does not have.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.containers.engine import Engine
from tests.support.compose import compose
from tests.support.processes import ROOT

PYTHON = ("python3", "python3-venv", "python3-pip", "python3-dev", "ca-certificates")
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
# Users and folders as in the images that they stand for.
PROGRAMS = """\
FROM {base} AS programs
RUN apt-get update && apt-get install --yes --no-install-recommends \\
    mosquitto mosquitto-clients haproxy prometheus iproute2
FROM programs AS eclipse-mosquitto
FROM programs AS haproxy
USER haproxy
FROM programs AS prometheus
RUN install --directory --owner nobody /prometheus
USER nobody
"""


def base_image() -> str:
    """The image that our Dockerfiles begin with."""
    found: set[str] = {
        name
        for path in (ROOT / "deploy/docker").glob("*.Dockerfile")
        for name in re.findall(r"^FROM (\S+:\S+)", path.read_text(), re.M)
    }
    (name,) = found
    return name


def make_stand_ins(engine: Engine) -> None:
    """The base image by debootstrap, and the images of ``deploy/compose.yaml`` that Debian has."""
    base = base_image()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        include = ",".join(PYTHON)
        engine.run(
            "debootstrap", "--variant=minbase", f"--include={include}", "bookworm", str(root)
        )
        (root / "usr/bin/python").symlink_to("python3")
        if Path("/", AUTHORITIES).exists():  # a registry may be behind a proxy of this site
            shutil.copy(Path("/", AUTHORITIES), root / AUTHORITIES)
        archive = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "import", "--change", 'CMD ["python"]', "-", base],
            stdin=archive.stdout, env=engine.environment(), check=True, capture_output=True,
        )  # fmt: skip
        archive.wait()
    for service in compose()["services"].values():
        image = service["image"]
        target = image.partition(":")[0].rpartition("/")[2]
        if f" AS {target}\n" in PROGRAMS:
            words = ["build", "--network", "host", "--target", target, "--tag", image, "-"]
            engine.docker(*words, text=PROGRAMS.format(base=base))
