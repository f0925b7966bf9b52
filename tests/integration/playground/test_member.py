"""A browser as a member of a fleet, without a browser and a broker: in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cloud.playground.application import STATIC
from tests.support.debian import need
from tests.support.web_module import SCRIPTS

RUN_S = 60


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("web", "node")


def desired(version: int, fraction: str) -> dict[str, Any]:
    return {"version": version, "settings": {"fraction": fraction}}


def delivered(folder: Path, *states: dict[str, Any]) -> dict[str, list[Any]]:
    """What a member applies and which versions it reports when these desired states arrive."""
    (folder / "device").mkdir()
    (folder / "package.json").write_text('{"type": "module"}')
    script = SCRIPTS / "exercise_member.js"
    for source in (STATIC / "member.js", STATIC / "ledger.js", script):
        shutil.copyfile(source, folder / source.name)
    words = ["node", script.name, json.dumps(states)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=RUN_S)
    assert done.returncode == 0, done.stderr
    result: dict[str, list[Any]] = json.loads(done.stdout)
    return result


def test_of_an_equal_version_the_later_desired_state_counts(tmp_path: Path) -> None:
    found = delivered(tmp_path, desired(1, "0.5"), desired(1, "0.75"))
    assert [one["fraction"] for one in found["applied"]] == ["0.5", "0.75"]
    assert found["versions"][-2:] == [1, 1]


def test_a_desired_state_that_comes_again_is_reported_and_not_applied(tmp_path: Path) -> None:
    found = delivered(tmp_path, desired(2, "0.5"), desired(2, "0.5"))
    assert len(found["applied"]) == 1
    assert found["versions"][-2:] == [2, 2]


def test_an_old_desired_state_changes_nothing(tmp_path: Path) -> None:
    found = delivered(tmp_path, desired(3, "0.5"), desired(2, "0.75"))
    assert [one["fraction"] for one in found["applied"]] == ["0.5"]
    assert found["versions"][-2:] == [3, 3]
