"""The C engine against the packed runtime: on the host under sanitizers, and on a board."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from device.micro.blob import make_blob
from device.micro.command import generate, main
from device.micro.footprint import compiled
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.errors import UsageError
from shared.fleet.messages import Desired, DeviceSettings
from shared.fleet.payloads import dump
from shared.model.bundle import Bundle, read_bundle
from shared.model.footprint import arena_bytes
from tests.support.boards import (
    BOARDS,
    SANITIZED,
    Result,
    build_attack,
    build_for_board,
    build_for_host,
    expected,
    run,
    run_on_board,
)
from tests.support.debian import need

SHIPPED = ("mnist-binary", "mnist-binary-paper", "cifar10-binary")
M4 = BOARDS[1]


def pictures(bundle: Bundle, count: int) -> npt.NDArray[np.uint8]:
    """Real digits, or for colour networks crops of them in three brightnesses."""
    shape = bundle.architecture.input_shape
    digits = sample_digits()[0][:count, :, :, None]
    if shape.channels == 1:
        return digits
    padded = np.pad(digits, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return np.concatenate([padded, 255 - padded, padded // 2], axis=3)


def agrees(
    bundle: Bundle, levels: list[int], results: list[Result], images: npt.NDArray[np.uint8]
) -> None:
    """Every result is what the packed runtime and the codec give."""
    wanted = expected(bundle, levels, images)
    assert [result.status for result in results] == [0] * len(wanted)
    assert [result.raw for result in results] == [one.raw for one in wanted]
    assert [result.request for result in results] == [one.request for one in wanted]
    if bundle.architecture.exit_head:
        exits = [(result.label, result.margin, result.stays) for result in results]
        assert exits == [one.exit for one in wanted]


def generated(name: str, folder: Path, levels: str | None = None) -> Path:
    """A folder of sources for a shipped bundle."""
    output = folder / name
    generate(name, output, levels)
    return output


@pytest.mark.parametrize("name", SHIPPED)
def test_the_engine_gives_the_bits_and_requests_of_the_packed_runtime(
    name: str, tmp_path: Path
) -> None:
    bundle = read_bundle(bundle_path(name))
    images = pictures(bundle, 24)
    program = build_for_host(generated(name, tmp_path), tmp_path, *SANITIZED)
    results = run([str(program)], images, tmp_path)
    agrees(bundle, list(range(len(bundle.architecture.device_levels))), results, images)


def test_chosen_levels_keep_their_bits_and_their_numbers(tmp_path: Path) -> None:
    bundle = read_bundle(bundle_path("mnist-binary"))
    images = pictures(bundle, 20)
    folder = generated("mnist-binary", tmp_path, "0.3,0.125")
    results = run([str(build_for_host(folder, tmp_path, *SANITIZED))], images, tmp_path)
    agrees(bundle, [0, 2], results, images)


def test_an_emulated_cortex_m4_gives_what_the_host_gives(tmp_path: Path) -> None:
    need("board", M4.compiler, M4.emulator[0])
    bundle = read_bundle(bundle_path("mnist-binary"))
    images = pictures(bundle, 5)
    program = build_for_board(M4, generated("mnist-binary", tmp_path), tmp_path)
    results = run_on_board(M4, program, images, tmp_path)
    agrees(bundle, list(range(6)), results, images)
    arena = arena_bytes(bundle.architecture, range(6))
    assert max(result.stack_bytes for result in results) + arena <= 8192


def test_the_memory_report_needs_a_compiler_and_no_c_library() -> None:
    need("board", "arm-none-eabi-gcc")
    code = compiled()
    assert code is not None
    assert code.flash_bytes > code.fleet_bytes > 0


@pytest.mark.parametrize("name", SHIPPED)
def test_damaged_blobs_never_lead_out_of_bounds(name: str, tmp_path: Path) -> None:
    bundle = read_bundle(bundle_path(name))
    (tmp_path / "blob").write_bytes(make_blob(bundle, [0, 2]))
    command = [str(build_attack(tmp_path)), str(tmp_path / "blob"), "300", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_damaged_desired_states_never_lead_out_of_bounds(tmp_path: Path) -> None:
    settings = DeviceSettings("0.3", 0.9, 5.0, 60.0, "mnist-binary", 0.1)
    (tmp_path / "desired").write_bytes(dump(Desired(12, settings)))
    program = build_attack(tmp_path, "attack_desired")
    command = [str(program), str(tmp_path / "desired"), "100000", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_the_example_builds_without_a_warning_and_answers(tmp_path: Path) -> None:
    folder = generated("mnist-binary", tmp_path)
    flags = "-DCMAKE_C_FLAGS=-Wall -Wextra -Wconversion -pedantic -Werror"
    subprocess.run(["cmake", "-S", folder, "-B", tmp_path / "build", flags], check=True)
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True)
    images, labels = sample_digits()
    done = subprocess.run(
        [tmp_path / "build" / "example"], input=images[0].tobytes(), capture_output=True
    )
    assert done.returncode == 0
    assert f"exit head: {labels[0]}".encode() in done.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--levels", "0.4"), "--levels: 0.4 is no level of this bundle; it has 0.125, 0.25, 0.3"),
        (("--levels", "half"), "--levels: 'half' is not a number"),
        (("--max-ram", "1000"), "--max-ram: 1000 bytes is too small; mnist-binary needs "),
    ],
)
def test_what_cannot_be_generated_is_one_line(
    flags: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["mnist-binary", "--output", str(tmp_path / "out"), *flags])
    assert ended.value.code == UsageError.exit_status
    assert says in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()
