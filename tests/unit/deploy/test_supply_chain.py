"""Locked requirements and licences against what the tests run with."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

from tests.support.processes import ROOT

LOCKS = sorted((ROOT / "deploy/requirements").glob("*.txt"))
EXTRAS = {
    "agent": (),
    "cloud": ("traces", "http"),
    "ray": ("ray",),
    "operations": ("traces", "http", "fleet", "dashboard"),
}
PROGRAMS = {  # of each image
    "device": ("device.client",),
    "agent": ("device.client", "device.agent.__main__", "device.fleet.__main__"),
    "cloud": ("cloud.server", "cloud.health"),
    "ray": ("cloud.ray_app",),
    "operations": ("cloud.server", "cloud.fleet.__main__", "cloud.dashboard.__main__"),
}
SOURCES = {"build", "device"}  # locks of a list of names beside them
MODULES = {
    "paho": "paho-mqtt",
    "PIL": "pillow",
    "google": "protobuf",
    "grpc": "grpcio",
}  # packages that are imported by another name


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ \\\n]+)", path.read_text(), re.M)
    return {plain(name): version for name, version in found}


def test_there_is_a_lock_for_each_role() -> None:
    assert {path.stem for path in LOCKS} == set(EXTRAS) | SOURCES


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_locks_hold_the_versions_that_are_tested(path: Path) -> None:
    tested = pins(ROOT / "constraints.txt")
    locked = pins(path)
    assert {name: tested.get(name) for name in locked} == locked, "run: make lock"


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_locks_hold_what_the_project_asks_for(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(project["dependencies"])
    for extra in EXTRAS[name]:
        asked += project["optional-dependencies"][extra]
    names = {plain(re.split(r"[\[<>=!~ ]", one)[0]) for one in asked} - {"taper-split"}
    assert names <= set(pins(ROOT / f"deploy/requirements/{name}.txt")), "run: make lock"


def imports() -> grimp.ImportGraph:
    """Who imports whom, those in functions too."""
    return grimp.build_graph(
        *("device", "cloud", "shared", "protos"),
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def test_no_image_lacks_a_part_of_taper_that_its_programs_import() -> None:
    graph = imports()
    text = "".join(path.read_text() for path in (ROOT / "deploy/docker").glob("*.Dockerfile"))
    removed = re.findall(r"install-packages (\w+)\.txt((?:(?: \\\n)? +[\w/]+)*)$", text, re.M)
    assert {lock for lock, _ in removed} == set(PROGRAMS)
    for lock, words in removed:
        folders = [word.replace("/", ".") for word in words.replace("\\", " ").split()]
        for program in PROGRAMS[lock]:
            needed = graph.find_upstream_modules(program)
            for folder in folders:
                parts = graph.find_descendants(folder) | {folder}
                assert not parts & needed, f"{program} imports {sorted(parts & needed)}"


def test_the_device_image_has_what_its_client_imports_and_no_more() -> None:
    graph = imports()
    modules = {module.partition(".")[0] for module in graph.find_upstream_modules("device.client")}
    outside = modules - {"device", "shared", "protos"} - sys.stdlib_module_names
    imported = {plain(MODULES.get(module, module)) for module in outside}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    videos = {plain(one.split(">=")[0]) for one in project["optional-dependencies"]["video"]}
    lines = (ROOT / "deploy/requirements/device.in").read_text().splitlines()
    asked = {line for line in lines if not line.startswith("#")}
    assert imported - videos == asked
    assert asked <= set(pins(ROOT / "deploy/requirements/device.txt")), "run: make lock"


def test_what_builds_the_wheel_is_locked_as_well() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {plain(re.split(r"[<>=!~ ]", one)[0]) for one in project["build-system"]["requires"]}
    assert needed <= set(pins(ROOT / "deploy/requirements/build.txt")), "run: make lock"


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
    assert listed == pins(ROOT / "deploy/requirements/operations.txt"), "run: make licences"
    assert all(licence.strip() not in ("", "UNKNOWN") for _, _, licence in cells)
