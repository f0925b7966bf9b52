"""The scripts of docs/examples run as they stand, on a few of the digits that ship.

In this process, which has torch already; ``own_data_to_fleet.py`` runs in ``test_own_task.py``.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.data.sample import sample_digits
from shared.images.idx import write_idx
from shared.model.bundle import read_bundle
from shared.profiles import PROFILES
from tests.support.processes import ROOT
from tests.support.torch_threads import few_threads

EXAMPLES = ROOT / "docs" / "examples"
LONGEST = 80  # lines


@pytest.fixture
def example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Runs a script with its words; gives what it prints."""
    monkeypatch.setattr("shared.profiles.PROFILES", dict(PROFILES))

    def started(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    with few_threads():
        yield started


def test_each_is_short_and_has_a_test() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert len(names) == 4
    assert all(name in Path(__file__).read_text() for name in names)
    assert all(len((EXAMPLES / name).read_text().splitlines()) < LONGEST for name in names)


def test_own_profile(example: Callable[..., str]) -> None:
    lines = example("own_profile.py", "--epochs", 6).splitlines()
    assert [line.split()[0] for line in lines] == ["profile", "square", "linear", "all-one"]
    assert float(lines[1].split()[-1].rstrip("%")) > 20  # of ten classes


def test_own_architecture(example: Callable[..., str], tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    said = example("own_architecture.py", "--epochs", 3, "--output", output)
    assert "of 40 pictures right" in said
    assert f"weights in {output.with_suffix('.net')}" in said
    assert read_bundle(output).architecture.name == "mine"


def test_paper_figure(example: Callable[..., str], tmp_path: Path) -> None:
    images, labels = sample_digits()
    for prefix, part in (("train", slice(0, 150)), ("t10k", slice(150, 200))):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", images[part])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", labels[part])
    output = tmp_path / "figure.svg"
    places = ("--data", tmp_path, "--checkpoints", tmp_path / "kept", "--output", output)
    said = example("paper_figure.py", "--epochs", 1, "--batch", 32, *places)
    assert said.count("100 %: ") == 2
    assert "<svg" in output.read_text()
