"""The last release, from the history of this checkout."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ROOT

REVISION = "71429cb17d26"
RELEASED = "released"  # tag of its images, beside ours
# What is not upgraded here and would be built on the way to what is.
STAGES = re.compile(r"^FROM \w+ AS ray.*?(?=^FROM )", re.MULTILINE | re.DOTALL)


@contextmanager
def released() -> Iterator[Path]:
    """A folder with the files of the last release while the block runs."""
    with tempfile.TemporaryDirectory(prefix="taper-released-") as folder:
        archive = subprocess.run(
            ["git", "archive", REVISION], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        Path(folder).chmod(0o755)
        for path in Path(folder, "deploy/docker").glob("*.Dockerfile"):
            path.write_text(STAGES.sub("", path.read_text()))
        yield Path(folder)
