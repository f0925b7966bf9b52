"""Run a Python module with another build of the compiled modules.

Usage: python scripts/with_native.py FOLDER_OF_SHARED_OBJECTS MODULE [ARGUMENTS]
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

NAMES = ("shared.packed._native", "cloud.native._core")
OPTIONAL = ("cloud.native._front",)  # built where libgrpc++ is installed


def main() -> None:
    """Load the shared objects under their modules' names, then run the rest of the command line."""
    folder, module, *arguments = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    for name in (*NAMES, *OPTIONAL):
        if not load(name, Path(folder)) and name in NAMES:
            sys.exit(f"{folder}: holds no extension module {name}")
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def load(name: str, folder: Path) -> bool:
    """Load the extension module ``name`` from ``folder``; False if it is not there."""
    for path in folder.glob(f"{name.rpartition('.')[2]}*.so"):
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is not None and spec.loader is not None:
            native = importlib.util.module_from_spec(spec)
            sys.modules[name] = native
            spec.loader.exec_module(native)
            return True
    return False


if __name__ == "__main__":
    main()
