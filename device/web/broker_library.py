"""Fetch the MQTT library for browsers, mqtt.js (MIT), by npm when a page is built."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "mqtt@5.16.0"
MEMBER = "package/dist/mqtt.esm.js"
SHA256 = "6e009e77fc644cbf7b46ea37ba77fbdaf5780452389a57f2b4a676437c2defdd"
FETCH_S = 60.0


def is_library(path: Path) -> bool:
    """Whether a file is the complete library in the expected version."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


def fetch_library() -> bytes:
    """Fetch the library as one module; ``OSError`` gives the reason of a failure."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE]
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, cwd=folder, timeout=FETCH_S
            )
        except FileNotFoundError:
            raise OSError("npm is not installed") from None
        except subprocess.TimeoutExpired:
            raise OSError("npm took too long") from None
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or ["npm ended without a reason"]
            raise OSError(lines[0]) from None
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as packed:
            found = packed.extractfile(MEMBER)
            content = b"" if found is None else found.read()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise OSError(f"{PACKAGE} is not the file that was expected")
    return content
