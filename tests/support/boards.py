"""The C engine on the host, under sanitizers, and on emulated boards: built, run, read back."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.micro.footprint import ENGINE
from shared.model.bundle import Bundle
from shared.model.exits import NEVER_MARGIN, local_answer, read_calibration
from shared.model.identity import VERSION_DIGITS
from shared.packed import DeviceHalf
from shared.protocol.codec import Encoding, FeatureCodec, Frame
from shared.protocol.messages import Request, request_to_message

HERE = Path(__file__).parent / "micro"
HEAD = np.dtype(
    [
        *((name, "<u4") for name in ("status", "label", "stays", "raw_bytes")),
        *((name, "<u4") for name in ("request_bytes", "stack_bytes")),
        *(("margin", "<i8"), ("instructions", "<u8")),
    ]
)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RUN_S = 300.0


@dataclass(frozen=True)
class Board:
    """An emulated machine: its compiler's flags, its memories, how the emulator is called."""

    name: str
    compiler: str
    flags: tuple[str, ...]
    emulator: tuple[str, ...]
    flash_at: int
    ram_at: int
    ram_bytes: int


def _arm(name: str, cpu: str, machine: str, clock_hz: int, ram_bytes: int) -> Board:
    return Board(
        name,
        "arm-none-eabi-gcc",
        (f"-mcpu={cpu}", "-mthumb", f"-DCLOCK_HZ={clock_hz}u"),
        ("qemu-system-arm", "-M", machine),
        0,
        0x20000000,
        ram_bytes,
    )


BOARDS = (
    _arm("m0", "cortex-m0", "microbit", 16_000_000, 16 * 1024),
    _arm("m4", "cortex-m4", "mps2-an386", 25_000_000, 64 * 1024),
    _arm("m7", "cortex-m7", "mps2-an500", 25_000_000, 64 * 1024),
    _arm("m55", "cortex-m55", "mps3-an547", 32_000_000, 64 * 1024),
    Board(
        "rv32",
        "riscv64-unknown-elf-gcc",
        ("-march=rv32imac_zicsr", "-mabi=ilp32", "-DCLOCK_HZ=0u"),
        ("qemu-system-riscv32", "-M", "virt", "-bios", "none"),
        0x80000000,
        0x80100000,
        64 * 1024,
    ),
)


@dataclass(frozen=True)
class Expected:
    """What the packed runtime and the codec give for one picture at one level."""

    raw: bytes
    request: bytes
    exit: tuple[int, int, bool] | None  # the exit head's label and margin, whether it is sure


@dataclass(frozen=True)
class Result:
    """What the engine gave for one picture at one level."""

    status: int
    label: int
    stays: bool
    margin: int
    raw: bytes
    request: bytes
    stack_bytes: int
    instructions: int

    def equals(self, expected: Expected) -> bool:
        """Whether every output is what the packed runtime gives."""
        mine = None if expected.exit is None else (self.label, self.margin, self.stays)
        found = (self.status, self.raw, self.request, mine)
        return found == (0, expected.raw, expected.request, expected.exit)


def build_for_board(board: Board, model: Path, folder: Path, program: str = "exercise") -> Path:
    """``program`` for ``board``, with ``model.h`` from the folder ``model``."""
    target = folder / f"{board.name}.elf"
    script = folder / f"{board.name}.ld"
    text = (HERE / "board.ld").read_text()
    for word, value in (
        ("FLASH_AT", board.flash_at),
        ("RAM_AT", board.ram_at),
        ("RAM_BYTES", board.ram_bytes),
    ):
        text = text.replace(word, hex(value))
    script.write_text(text)
    sources = [*sorted(ENGINE.glob("*.c")), HERE / f"{program}.c", HERE / "port_board.c"]
    command = [
        *(board.compiler, *board.flags, "-std=c99", "-O2", "-ffreestanding", "-nostdlib"),
        # Loops that copy must not become calls of the functions that they define.
        *(
            "-fno-tree-loop-distribute-patterns",
            f"-I{HERE}/freestanding",
            f"-I{ENGINE}",
            f"-I{model}",
            "-T",
            str(script),
        ),
        *(*map(str, sources), "-lgcc", "-o", str(target)),
    ]
    subprocess.run(command, check=True)
    return target


def build_for_host(model: Path, folder: Path, *flags: str, program: str = "exercise") -> Path:
    """``program`` for this machine, with every warning an error."""
    target = folder / "host"
    sources = [*sorted(ENGINE.glob("*.c")), HERE / f"{program}.c", HERE / "port_host.c"]
    includes = (f"-I{ENGINE}", f"-I{model}")
    command = [
        "gcc",
        *STRICT,
        "-O1",
        "-g",
        *flags,
        *includes,
        *map(str, sources),
        "-o",
        str(target),
    ]
    subprocess.run(command, check=True)
    return target


def run(command: Sequence[str], images: npt.NDArray[np.uint8], folder: Path) -> list[Result]:
    """Run a program over images (N, H, W, C): results by image, then by level."""
    return read_results(run_raw(command, images.tobytes(), folder))


def run_raw(command: Sequence[str], content: bytes, folder: Path) -> bytes:
    """Run a program that reads ``content``; what it wrote."""
    (folder / "pictures.bin").write_bytes(content)
    subprocess.run(command, check=True, cwd=folder, timeout=RUN_S)
    return (folder / "results.bin").read_bytes()


def run_on_board(
    board: Board, program: Path, images: npt.NDArray[np.uint8], folder: Path
) -> list[Result]:
    """Run a board's program in the emulator, which counts its instructions."""
    return run(emulation(board, program), images, folder)


def emulation(board: Board, program: Path) -> list[str]:
    """The command that runs a board's program."""
    options = ("-nographic", "-semihosting", "-icount", "shift=0", "-kernel", str(program))
    return [*board.emulator, *options]


def read_results(content: bytes) -> list[Result]:
    """What ``exercise.c`` wrote."""
    results, at = [], 0
    while at < len(content):
        head = np.frombuffer(content, HEAD, 1, at)[0]
        at += HEAD.itemsize
        raw = content[at : at + int(head["raw_bytes"])]
        at += len(raw)
        request = content[at : at + int(head["request_bytes"])]
        at += len(request)
        results.append(
            Result(
                *(int(head["status"]), int(head["label"]), bool(head["stays"])),
                *(int(head["margin"]), raw, request),
                *(int(head["stack_bytes"]), int(head["instructions"])),
            )
        )
    return results


def build_attack(folder: Path, program: str = "attack") -> Path:
    """A program that reads damaged input, under address and undefined-behaviour sanitizers."""
    target = folder / program
    sources = [*sorted(ENGINE.glob("*.c")), HERE / f"{program}.c"]
    command = ["gcc", "-std=c99", "-O1", "-g", *SANITIZED, f"-I{ENGINE}", *map(str, sources)]
    subprocess.run([*command, "-o", str(target)], check=True)
    return target


def expected(
    bundle: Bundle, levels: Sequence[int], images: npt.NDArray[np.uint8]
) -> list[Expected]:
    """Of every image, then every level; the request is number 7, as ``exercise.c`` has it."""
    half, codec = DeviceHalf(bundle), FeatureCodec(bundle)
    meta = bundle.metadata
    by_level = []
    for level in levels:
        rows = half.run(images, level)
        exits = exit_answers(bundle, half, rows, level) if meta.architecture.exit_head else None
        column = []
        for index, row in enumerate(rows):
            frame = board_frame(codec, row[None], level)
            request = Request(7, meta.name, meta.version[:VERSION_DIGITS], frame, None, 0)
            message = request_to_message(request).SerializeToString()
            column.append(Expected(row.tobytes(), message, exits[index] if exits else None))
        by_level.append(column)
    return [column[index] for index in range(len(images)) for column in by_level]


def board_frame(codec: FeatureCodec, row: npt.NDArray[np.uint8], level: int) -> Frame:
    """The smallest frame for packed bits (1, bytes) that the engine can write."""
    frame = codec.encode(row, level)
    if frame.encoding is Encoding.ZSTD_DICT:  # which the engine does not have
        return codec.encode_as(row, level, Encoding.RAW)
    return frame


def exit_answers(
    bundle: Bundle, half: DeviceHalf, rows: npt.NDArray[np.uint8], level: int
) -> list[tuple[int, int, bool]]:
    """Label, margin and decision of the exit head for every row of packed bits."""
    calibration = read_calibration(bundle)
    least = calibration.margins[level] if calibration else NEVER_MARGIN
    answers = [local_answer(logits) for logits in half.exit_logits(rows, level).tolist()]
    return [(answer.label, answer.margin, answer.margin >= least) for answer in answers]
