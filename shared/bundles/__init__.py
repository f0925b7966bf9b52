"""Model bundles that ship with taper."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from shared.errors import BundleError

DEFAULT_MODEL = "mnist-binary"
SUFFIX = ".safetensors"


def shipped() -> dict[str, Path]:
    """Return the shipped bundles by name, the default first."""
    folder = Path(str(files(__name__)))
    paths = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: (path.stem != DEFAULT_MODEL, path))
    return {path.stem: path for path in paths}


def bundle_path(name_or_path: str, flag: str = "--model") -> Path:
    """Return the path of a shipped bundle by name, or of a bundle file; errors name ``flag``."""
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.suffix == SUFFIX or path.exists():
        return path
    raise BundleError(
        f"{flag}: {name_or_path!r} is unknown; give a *{SUFFIX} file or one of {', '.join(known)}"
    )
