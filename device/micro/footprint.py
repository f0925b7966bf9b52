"""What a model takes on a board: flash, RAM and operations, before anything is built or flashed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.model.architecture import Architecture, Kind, Shape, Stage

ENGINE = Path(__file__).parent / "engine"
COMPILER = "arm-none-eabi-gcc"
FLAGS = ("-mcpu=cortex-m4", "-mthumb", "-std=c99", "-Os", "-ffreestanding")
ENTRIES = ("taper_open", "taper_run", "taper_ask_exit", "taper_request")
REQUEST_OVERHEAD = 128  # TAPER_REQUEST_OVERHEAD of taper.h
WORD_BYTES = 4

_NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes')
_EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


@dataclass(frozen=True)
class Code:
    """Size of the compiled engine and the deepest stack of its functions, in bytes."""

    flash_bytes: int
    stack_bytes: int


def arena_bytes(architecture: Architecture, levels: Sequence[int]) -> int:
    """The arena that ``taper_run`` needs for these levels: two maps in turn and one scratch."""
    maps, scratch = [0, 0], 0
    entries = list(architecture.device_shapes(levels[-1]))
    for index, (stage, before, after) in enumerate(entries):
        size = after.height * after.width * -(-after.channels // 32)
        maps[index % 2] = max(maps[index % 2], size)
        scratch = max(scratch, _scratch_words(stage, before))
    if architecture.exit_stage is not None:
        sent = architecture.sent_shape(levels[-1])
        scratch = max(scratch, _scratch_words(architecture.exit_stage, sent))
    return WORD_BYTES * (sum(maps) + scratch)


def _scratch_words(stage: Stage, before: Shape) -> int:
    positions = stage.pool**2
    if stage.kind is Kind.IMAGE_CONV:
        return positions * -(-9 * before.channels // 4) * 16
    words = -(-before.channels // 32)
    if stage.kind is Kind.BINARY_LINEAR:
        return 0 if words == 1 else words * before.height * before.width
    return positions * words * 9


def compiled(folder: Path = ENGINE) -> Code | None:
    """Compile the engine for a Cortex-M4 and measure it; None without the compiler."""
    if shutil.which(COMPILER) is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for source in sorted(folder.glob("*.c")):
            target = Path(scratch, source.stem + ".o")
            command = [
                COMPILER,
                *FLAGS,
                "-fcallgraph-info=su",
                "-c",
                str(source),
                "-o",
                str(target),
            ]
            subprocess.run(command, check=True, cwd=scratch)
            objects.append(str(target))
        sizes = subprocess.run(
            ["arm-none-eabi-size", "-t", *objects], check=True, capture_output=True, text=True
        )
        text = int(sizes.stdout.splitlines()[-1].split()[0])
        graph = "".join(path.read_text() for path in Path(scratch).glob("*.ci"))
    return Code(text, deepest(graph))


def deepest(graph: str) -> int:
    """The deepest stack below any public function, from GCC's call graph (VCG format)."""
    frames = {name.split(":")[-1]: int(size) for name, size in _NODE.findall(graph)}
    calls: dict[str, set[str]] = {}
    for caller, callee in _EDGE.findall(graph):
        calls.setdefault(caller.split(":")[-1], set()).add(callee.split(":")[-1])
    return max(_depth(entry, frames, calls) for entry in ENTRIES)


def _depth(name: str, frames: Mapping[str, int], calls: Mapping[str, set[str]]) -> int:
    below = (_depth(callee, frames, calls) for callee in calls.get(name, ()))
    return frames.get(name, 0) + max(below, default=0)
