"""Compile the C engine of ``device.micro`` to WebAssembly with Debian's clang and lld."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from device.micro.footprint import ENGINE
from shared.errors import UsageError

HERE = Path(__file__).parent
MODULE = HERE / "module"
SCRIPTS = (HERE / "taper.js", HERE / "exit.js")
COMPILER, LINKER = "clang", "wasm-ld"
# The output does not depend on folder or time, so a compiler gives the same bytes anywhere.
FLAGS = (
    *("--target=wasm32", "-std=c99", "-O3", "-mbulk-memory", "-ffreestanding", "-nostdlib"),
    *("-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wl,--no-entry", "-Wl,--strip-all"),
)


@cache
def compile_engine(engine: Path = ENGINE) -> bytes:
    """Compile the module; ``UsageError`` if the compiler is missing or fails."""
    for program in (COMPILER, LINKER):
        if shutil.which(program) is None:
            raise UsageError(f"{program} is not installed; scripts/system-deps web installs it")
    sources = [*sorted(engine.glob("*.c")), MODULE / "taper_web.c"]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "taper.wasm")
        command = [COMPILER, *FLAGS, f"-I{MODULE}", f"-I{engine}", "-o", str(target)]
        done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True)
        if done.returncode:
            raise UsageError(f"{COMPILER}: {done.stderr.strip() or 'ended without a reason'}")
        return target.read_bytes()
