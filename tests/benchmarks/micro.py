"""``python -m tests.benchmarks.micro``: the C engine on emulated boards, and here with sanitizers.

Memory is that reported by the generator. Instructions are counted by the emulator and cannot be
converted to milliseconds, as some take more than one cycle on real cores. ``--full`` runs 1,000
test images of MNIST (which must be fetched before) on every board, otherwise a few shipped digits.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt

from cloud.training.data.datasets import DATA_DIR_VARIABLE, load
from device.micro.blob import make_blob
from device.micro.command import generate
from device.micro.footprint import compiled
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.fractions import level_for
from shared.model.bundle import DEVICE_GROUPS, Bundle, read_bundle
from shared.model.footprint import arena_bytes
from tests.benchmarks.harness import Check, Report, main, table
from tests.support import boards
from tests.support.boards import BOARDS, SANITIZED, Board, Result

FEW, MANY = 5, 1000
AT_A_TIME = 100  # number of pictures in one run of the emulator


def run(full: bool) -> Report:
    """Measure memory of the shipped models, and run one of them on every board."""
    report = Report()
    mnist, cifar = (read_bundle(bundle_path(name)) for name in ("mnist-binary", "cifar10-binary"))
    code = compiled()
    flash, stack = (code.flash_bytes, code.stack_bytes) if code else (None, None)
    levels = range(len(mnist.architecture.device_levels))
    d30 = level_for(0.3, mnist.architecture.device_levels)
    ran = {
        board.name if board else "host": exercise(board, mnist, levels, images(full))
        for board in (None, *BOARDS)
    }
    report.checks = [
        _bytes("mnist_ram_bytes", arena_bytes(mnist.architecture, levels), stack, 8192),
        _bytes("mnist_flash_bytes", _blob_bytes(mnist, levels), flash, 40960),
        _bytes("mnist_d30_flash_bytes", _blob_bytes(mnist, [d30]), flash, 24576),
        _bytes("cifar_ram_bytes", arena_bytes(cifar.architecture, levels), stack, 24576),
        Check("m4_instructions_d30", ran["m4"][1][d30], "", 1.6e6, "lower"),
        Check("m4_instructions_full", ran["m4"][1][levels[-1]], "", 6e6, "lower"),
        Check("m0_runs", float(ran["m0"][0] == 1.0), "", 1, "higher"),
        Check("identical_outputs", min(share for share, _ in ran.values()), "", 1, "higher"),
    ]
    report.results = {name: {"same": same, "instructions": n} for name, (same, n) in ran.items()}
    fractions = [f"{fraction:g}" for fraction in mnist.architecture.device_levels]
    rows = [
        (name, f"{same:.3f}", *(f"{n:,.0f}" if n else "-" for n in by))
        for name, (same, by) in ran.items()
    ]
    title = "mnist-binary: share of equal outputs, mean instructions by fraction"
    report.tables = [table(title, ("board", "equal", *fractions), rows)]
    return report


def images(full: bool) -> npt.NDArray[np.uint8]:
    """Return digits (N, 28, 28, 1)."""
    if not full:
        return sample_digits()[0][:FEW, :, :, None]
    folder = Path(os.environ.get(DATA_DIR_VARIABLE, "data"))
    return load("mnist", folder, "test").images[:MANY]


def exercise(
    board: Board | None, bundle: Bundle, levels: Sequence[int], pictures: npt.NDArray[np.uint8]
) -> tuple[float, list[float]]:
    """Return the share of outputs equal to the packed runtime's, and mean instructions by level.

    If ``board`` is None, the engine runs on this machine with the sanitizers, and no instructions
    are counted.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        generate(bundle.metadata.name, folder / "model")
        if board is None:
            command = [str(boards.build_for_host(folder / "model", folder, *SANITIZED))]
        else:
            command = boards.emulation(
                board, boards.build_for_board(board, folder / "model", folder)
            )
        results = [
            result
            for start in range(0, len(pictures), AT_A_TIME)
            for result in boards.run(command, pictures[start : start + AT_A_TIME], folder)
        ]
    wanted = boards.expected(bundle, levels, pictures)
    same = [result.equals(one) for result, one in zip(results, wanted, strict=True)]
    by_level = [_instructions(results[index :: len(levels)]) for index in range(len(levels))]
    return mean(same), by_level


def _instructions(results: Sequence[Result]) -> float:
    return mean(result.instructions for result in results)


def _blob_bytes(bundle: Bundle, levels: Sequence[int]) -> int:
    part = read_bundle(bundle_path(bundle.metadata.name), DEVICE_GROUPS)
    return len(make_blob(part, levels))


def _bytes(name: str, own: int, code: int | None, target: int) -> Check:
    return Check(name, None if code is None else own + code, "bytes", target, "lower")


if __name__ == "__main__":
    main("micro", __doc__ or "", run)
