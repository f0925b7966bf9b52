"""The last release, from the history of this checkout."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ROOT

REVISION = "6d4059d0196e"
RELEASED = "released"  # tag of its images, beside ours


@contextmanager
def released() -> Iterator[Path]:
    """A folder with the files of the last release while the block runs."""
    with tempfile.TemporaryDirectory(prefix="taper-released-") as folder:
        archive = subprocess.run(
            ["git", "archive", REVISION], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        Path(folder).chmod(0o755)
        yield Path(folder)
