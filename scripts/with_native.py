"""Run a Python module with another build of the compiled kernels.

Usage: python scripts/with_native.py PATH_OF_SHARED_OBJECT MODULE [ARGUMENTS]
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

NAME = "shared.packed._native"


def main() -> None:
    """Load the shared object under the module's name, then run the rest of the command line."""
    path, module, *arguments = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    spec = importlib.util.spec_from_file_location(NAME, path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path}: is no extension module")
    native = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = native
    spec.loader.exec_module(native)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
