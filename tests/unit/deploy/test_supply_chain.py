"""Locked requirements and licences against what the tests run with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.processes import ROOT

LOCKS = sorted((ROOT / "deploy/requirements").glob("*.txt"))
EXTRAS = {"device": (), "cloud": ("traces", "fleet", "dashboard")}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ \\\n]+)", path.read_text(), re.M)
    return {plain(name): version for name, version in found}


def test_there_is_a_lock_for_each_role() -> None:
    assert {path.stem for path in LOCKS} == set(EXTRAS)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_locks_hold_the_versions_that_are_tested(path: Path) -> None:
    tested = pins(ROOT / "constraints.txt")
    locked = pins(path)
    assert {name: tested.get(name) for name in locked} == locked, "run: make lock"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_locks_hold_what_the_project_asks_for(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in EXTRAS[path.stem]:
        asked += project["optional-dependencies"][extra]
    names = {plain(re.split(r"[\[<>=!~ ]", one)[0]) for one in asked} - {"taper-split"}
    assert names <= set(pins(path)), "run: make lock"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_file_is_locked_by_its_hash(path: Path) -> None:
    text = path.read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M)[1:]
    assert len(entries) == len(pins(path))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "torch" not in pins(path)
    assert "://" not in text  # neither a registry nor a file of the machine that made it


def test_every_licence_is_listed() -> None:
    rows = (ROOT / "docs/licences.md").read_text().splitlines()
    cells = [row.split("|")[1:4] for row in rows if row.startswith("| ")][1:]
    listed = {plain(name.strip()): version.strip() for name, version, _ in cells}
    assert listed == pins(ROOT / "deploy/requirements/cloud.txt"), "run: make licences"
    assert all(licence.strip() not in ("", "UNKNOWN") for _, _, licence in cells)
