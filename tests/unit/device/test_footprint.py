"""What the client loads: no heavy package, and not more time than its budget."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import device

# In units of numpy's own import in the same process, so that a busy machine does not fail the test:
# our modules, and everything together. On a quiet machine numpy takes about 50 ms.
OWN_BUDGET = 1.8
WHOLE_BUDGET = 8.0
NEVER = ("torch", "pandas", "matplotlib", "scipy", "typer", "pydantic", "rich")
ONLY_WHEN_NEEDED = (
    *("shared.images.arrays", "shared.images.labels", "shared.images.pictures"),
    *("PIL", "psutil", "sqlite3", "device.cli.report", "device.simulate.figure"),
    *("device.policy.auto", "device.split.spool", "device.split.model_store"),
)
LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def imports(bytecode: Path) -> dict[str, float]:
    """Seconds of every module that ``device.client`` loads, without those that it loads in turn.

    Modules come from the folder ``bytecode``, as those of an installed package do: where Python may
    not write bytecode, half of our modules' time would be the compiler's.
    """
    environment = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(bytecode)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import device.client"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = (LINE.fullmatch(line.strip()) for line in done.stderr.splitlines())
    return {match[2]: int(match[1]) / 1e6 for match in found if match}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    bytecode = tmp_path_factory.mktemp("bytecode")
    imports(bytecode)  # compiles
    return [imports(bytecode) for _ in range(3)]


@pytest.mark.parametrize("package", [*NEVER, *ONLY_WHEN_NEEDED])
def test_client_starts_without(runs: list[dict[str, float]], package: str) -> None:
    loaded = [name for name in runs[0] if name == package or name.startswith(f"{package}.")]
    assert loaded == []


def seconds(run: dict[str, float], *packages: str) -> float:
    return sum(s for name, s in run.items() if name.split(".")[0] in packages)


def test_the_whole_import_keeps_its_budget(runs: list[dict[str, float]]) -> None:
    assert min(sum(run.values()) / seconds(run, "numpy") for run in runs) <= WHOLE_BUDGET


def test_our_own_modules_keep_their_budget(runs: list[dict[str, float]]) -> None:
    ours = ("device", "shared", "protos")
    assert min(seconds(run, *ours) / seconds(run, "numpy") for run in runs) <= OWN_BUDGET


def test_other_names_of_the_package_are_refused() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = device.nothing
