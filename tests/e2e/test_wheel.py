"""The wheel in a clean environment, outside the checkout: what a user of the package gets."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.fleets import wait_for_line
from tests.support.processes import ROOT, environment

INSTALL_S = 400
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def run(folder: Path, *words: str | Path, seconds: float = INSTALL_S) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the installed commands are."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(folder, *pip, *build, "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("taper_split-*.whl")
    run(folder, sys.executable, "-m", "venv", "clean")
    programs = folder / "clean" / "bin"
    pip = [
        str(programs / "python"),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
    ]
    locked = ROOT / "deploy/requirements/agent.txt"
    run(folder, *pip, "--require-hashes", "--no-deps", "--requirement", locked)
    run(folder, *pip, "--no-deps", wheel)
    return programs


@pytest.mark.timeout(600)
def test_both_commands_work_without_the_checkout(programs: Path, tmp_path: Path) -> None:
    server = subprocess.Popen(
        [programs / "taper-cloud", "--host", "127.0.0.1", "--port", "0"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        address = wait_for_line(server, "listening on").split()[-1]
        words = ["--server", address, "--fraction", "0.3", "--output", "json"]
        for command in ([programs / "taper-device"], [programs / "python", "-m", "device.client"]):
            report = json.loads(run(tmp_path, *command, *words, seconds=60))
            assert report["summary"]["accuracy"] >= 0.95
            assert len(report["samples"]) == 200
    finally:
        server.terminate()
        server.wait(30)
        if server.stdout:
            server.stdout.close()


COMMANDS = (
    *("taper-agent", "taper-cloud", "taper-dashboard", "taper-device", "taper-devices"),
    *("taper-fleet", "taper-fleet set", "taper-fleet watch", "taper-fleet run"),
    *("taper-fleet export", "taper-fleet report", "taper-health", "taper-playground"),
    "taper-simulate",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_command_and_fits_80_columns(
    programs: Path, tmp_path: Path, command: str
) -> None:
    program, *words = command.split()
    narrow = ("env", "COLUMNS=80", str(programs / program))
    text = run(tmp_path, *narrow, *words, "--help", seconds=60)
    assert f"usage: {command} " in text.replace("Usage", "usage")
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text  # nothing is cut off
    version = run(tmp_path, programs / program, "--version", seconds=60)
    assert version == f"{program} {VERSION}\n"


def test_training_without_its_extra_says_how_to_install_it(programs: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [programs / "taper-train", "--help"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: torch is not installed; install taper's extra 'train'")
    assert len(done.stderr.splitlines()) == 1


def test_commands_work_in_a_folder_with_modules_of_the_same_names(
    programs: Path, tmp_path: Path
) -> None:
    (tmp_path / "shared.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "cloud").mkdir()
    assert run(tmp_path, programs / "taper-device", "--version").startswith("taper-device ")
    assert run(tmp_path, programs / "taper-cloud", "--version").startswith("taper-cloud ")


def test_what_is_installed_is_whole_and_light(programs: Path, tmp_path: Path) -> None:
    assert run(tmp_path, programs / "python", "-m", "pip", "check").strip() == (
        "No broken requirements found."
    )
    kernels = "from shared.packed import kernels; print(kernels.missing_reason() or 'native')"
    assert run(tmp_path, programs / "python", "-c", kernels).strip() == "native"
    heavy = "import importlib.util as u; print([n for n in ('torch', 'nicegui') if u.find_spec(n)])"
    assert run(tmp_path, programs / "python", "-c", heavy).strip() == "[]"
    assert "Usage" in run(tmp_path, programs / "python", "-m", "cloud.fleet", "--help")
