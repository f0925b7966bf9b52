"""The peers' environments, which pip creates once below the user's cache folder."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path.home() / ".cache" / "taper" / "peers"


@dataclass(frozen=True)
class Peer:
    """A server program beside this module, and the packages that it needs."""

    name: str
    requirements: tuple[str, ...]

    @property
    def program(self) -> Path:
        """Return the path of the program."""
        return Path(__file__).parent / f"{self.name}_server.py"


KSERVE = Peer("kserve", ("kserve==0.21.0", "onnxruntime==1.32.0"))
LITSERVE = Peer("litserve", ("litserve==0.2.19", "onnxruntime==1.32.0"))


def python_of(peer: Peer) -> Path | None:
    """Return the interpreter of the peer's environment, which is installed if it is missing.

    If that fails, e.g. without a package index, prints pip's last lines to standard error and
    returns None.
    """
    folder = FOLDER / peer.name
    installed, python = folder / "installed.txt", folder / "bin" / "python"
    wanted = "\n".join(peer.requirements)
    if installed.exists() and installed.read_text() == wanted:
        return python
    sys.stderr.write(f"installing {', '.join(peer.requirements)}\n")
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    done = subprocess.run([*pip, *peer.requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"{peer.name} cannot be installed: {done.stderr[-500:]}\n")
        return None
    installed.write_text(wanted)
    return python
