"""The documentation and the comments name files, modules and commands that exist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.support.processes import ROOT

PACKAGES = "device|cloud|shared|protos|tests|deploy|scripts|docs"
SUFFIXES = "py|md|proto|yaml|yml|toml|txt|cfg|svg|png|json|hpp|cpp|h|c"
PATH = re.compile(rf"(?<![\w./-])(?:{PACKAGES})/[\w./-]+\.(?:{SUFFIXES})\b")
MODULE = re.compile(r"(?<![\w./-])(?:device|cloud|shared|tests)(?:\.(?!py\b|example\b)[a-z_]\w*)+")
COMMAND = re.compile(r"(?<![\w/.-])taper-(?:[a-z]+)(?= |`|$)", re.M)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def tracked(*patterns: str) -> list[str]:
    """Files of the repository; an installed tree without git would have nothing to check."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


PAGES = [name for name in tracked("*.md") if name != "CHANGELOG.md"]
SOURCES = [
    name
    for name in tracked("*.py", "*.proto", "*.yaml", "*.cfg", "Makefile", "pyproject.toml")
    if "_pb2" not in name
]


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or a name of one that its text defines or mentions."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:count])
        module = path.with_suffix(".py") if path.with_suffix(".py").is_file() else None
        if module is None and (path / "__init__.py").is_file():
            module = path / "__init__.py"
        if module is None:
            continue
        rest = parts[count:]
        return not rest or re.search(rf"\b{rest[0]}\b", module.read_text()) is not None
    return False


def wrong(names: Iterable[str], found: Callable[[str], Iterable[str]]) -> list[str]:
    """``file: word`` for every word that ``found`` gives of a file's text."""
    return [f"{name}: {word}" for name in names for word in found((ROOT / name).read_text())]


def test_paths_that_are_named_exist() -> None:
    def missing(text: str) -> set[str]:
        paths = {path for path in PATH.findall(text) if not Path(path).stem.isupper()}
        return {path for path in paths if not (ROOT / path).exists()}

    assert wrong(PAGES + SOURCES, missing) == []


def test_modules_that_are_named_exist() -> None:
    def missing(text: str) -> set[str]:
        return {name for name in MODULE.findall(PATH.sub("", text)) if not exists(name)}

    assert wrong(PAGES, missing) == []


def test_commands_that_are_named_exist() -> None:
    scripts = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
    assert wrong(PAGES, lambda text: set(COMMAND.findall(text)) - scripts - {"taper-split"}) == []


def test_links_lead_to_files() -> None:
    broken = [
        f"{name}: {link}"
        for name in PAGES
        for link in LINK.findall((ROOT / name).read_text())
        if not (ROOT / name).parent.joinpath(link).exists()
    ]
    assert broken == []
