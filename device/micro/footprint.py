"""Measure flash and stack of the C engine on a board by compiling it on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENGINE = Path(__file__).parent / "engine"
# Declarations of string.h that the engine uses, for compilers without a C library.
WITHOUT_LIBRARY = ("-idirafter", str(Path(__file__).parents[1] / "web" / "module"))
COMPILER = "arm-none-eabi-gcc"
FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-std=c99", "-Os", "-ffreestanding")
ENTRIES = (
    *("taper_open", "taper_run", "taper_ask_exit"),
    *("taper_request", "taper_request_look", "taper_read_response"),
)
FLEET = ("taper_fleet", "taper_desired")  # sources that only boards in a fleet need
REQUEST_OVERHEAD = 128  # TAPER_REQUEST_OVERHEAD of taper.h

_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


@dataclass(frozen=True)
class Code:
    """Size of the compiled engine and the deepest stack of its functions, in bytes.

    ``fleet_bytes`` are needed in addition by boards in a fleet.
    """

    flash_bytes: int
    stack_bytes: int
    fleet_bytes: int


def compiled(folder: Path = ENGINE) -> Code | None:
    """Compile the engine for a Cortex-M4 and measure it; None if the compiler is missing."""
    if shutil.which(COMPILER) is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for source in sorted(folder.glob("*.c")):
            target = Path(scratch, source.stem + ".o")
            command = [
                COMPILER,
                *FLAGS,
                *WITHOUT_LIBRARY,
                "-fcallgraph-info=su",
                "-c",
                str(source),
                "-o",
                str(target),
            ]
            subprocess.run(command, check=True, cwd=scratch)
            objects.append(str(target))
        fleet = [path for path in objects if Path(path).stem in FLEET]
        engine = [path for path in objects if path not in fleet]
        graph = "".join(path.read_text() for path in Path(scratch).glob("*.ci"))
        return Code(_text_bytes(engine), deepest(graph), _text_bytes(fleet))


def _text_bytes(objects: Sequence[str]) -> int:
    """Return the bytes of code and constants in compiled files."""
    command = ["arm-none-eabi-size", "-t", *objects]
    sizes = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(sizes.stdout.splitlines()[-1].split()[0])


def deepest(graph: str) -> int:
    """Return the deepest stack of any public function, from GCC's call graph (VCG format)."""
    frames = {name.split(":")[-1]: int(size) for name, size in _NODE.findall(graph)}
    calls: dict[str, set[str]] = {}
    for caller, callee in _EDGE.findall(graph):
        calls.setdefault(caller.split(":")[-1], set()).add(callee.split(":")[-1])
    return max(_depth(entry, frames, calls) for entry in ENTRIES)


def _depth(name: str, frames: Mapping[str, int], calls: Mapping[str, set[str]]) -> int:
    below = (_depth(callee, frames, calls) for callee in calls.get(name, ()))
    return frames.get(name, 0) + max(below, default=0)
