"""Images of other projects, made of Debian's packages where none can be pulled.

They have the names that our files say, so that these are used as they are; the programs are
Debian's, of other versions. There is none of Grafana, which Debian does not have.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.containers.engine import Engine, EngineError
from tests.containers.progress import timed
from tests.support.compose import compose
from tests.support.processes import ROOT

PYTHON = ("python3", "python3-venv", "python3-pip", "python3-dev", "ca-certificates")
# As in Debian's own images.
DPKG = ("force-unsafe-io", "path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*")
# Packages that were installed, and indexes of them, are not kept.
CLEAN = 'APT::Keep-Downloaded-Packages "false"; Dir::Cache { pkgcache ""; srcpkgcache ""; };'
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


def make_base(engine: Engine) -> None:
    """The base image, of Debian's packages."""
    words = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PYTHON)}"]
    words += [f"--dpkgopt={option}" for option in DPKG]
    words += ['--customize-hook=ln -s python3 "$1/usr/bin/python"']
    words += [f"--customize-hook=echo '{CLEAN}' > \"$1/etc/apt/apt.conf.d/clean\""]
    if Path("/", AUTHORITIES).exists():  # a registry may be behind a proxy of this site
        words += [f"--customize-hook=upload /{AUTHORITIES} /{AUTHORITIES}"]
    with timed("  " + base_image()):
        archive = subprocess.Popen([*words, "bookworm", "-"], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "import", "--change", 'CMD ["python"]', "-", base_image()],
            stdin=archive.stdout, env=engine.environment(), check=True, capture_output=True,
        )  # fmt: skip
        if archive.wait():
            raise EngineError("mmdebstrap failed")


def make_programs(engine: Engine) -> None:
    """The images of ``deploy/compose.yaml`` that Debian has."""
    text = PROGRAMS.format(base=base_image())
    with timed("  programs of Debian"):
        for service in compose()["services"].values():
            image = service["image"]
            target = image.partition(":")[0].rpartition("/")[2]
            if f" AS {target}\n" in text:
                words = ["build", "--network", "host", "--target", target, "--tag", image, "-"]
                engine.docker(*words, text=text)
