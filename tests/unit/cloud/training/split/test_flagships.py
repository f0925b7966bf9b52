"""``python -m cloud.training.flagships``: weights within a span of time, bundles from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud.training.split import architectures, job
from cloud.training.split.budget import Budget, falling_epochs
from cloud.training.split.flagships import FLAGSHIPS, Flagship, app
from cloud.training.split.network_file import read_network
from cloud.training.split.settings import Settings
from cloud.training.split.train import app as train_app
from shared.errors import UsageError
from shared.images.idx import write_idx
from shared.model.architecture import Architecture, Shape
from shared.model.bundle import read_bundle
from tests.support.trainings import QUICK, pictures, tiny


class TwoStable(Budget):
    """Time for two epochs and those that follow them, however slow the machine is."""

    def over(self) -> bool:
        return False

    def epochs(self, done: int, architecture: Architecture, settings: Settings) -> int | None:
        return done + falling_epochs(done, settings.decay) if done == 2 else None


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A flagship called "bars" on a folder of pictures, and the flags for it."""

    def make(shape: Shape, classes: int) -> Architecture:
        return tiny()

    monkeypatch.setitem(architectures.ARCHITECTURES, "tiny", make)
    data = tmp_path / "data"
    data.mkdir()
    for prefix, made in (("train", pictures(120)), ("t10k", pictures(40, seed=1))):
        write_idx(data / f"{prefix}-images-idx3-ubyte", made.images[..., 0])
        write_idx(data / f"{prefix}-labels-idx1-ubyte", made.labels.astype(np.uint8))
    monkeypatch.setitem(FLAGSHIPS, "bars", Flagship("tiny", str(data), QUICK))
    monkeypatch.setattr(job, "Budget", TwoStable)
    folders = ("--output", str(tmp_path / "nets"), "--checkpoints", str(tmp_path / "states"))
    return [*folders, "--only", "bars", "--device", "cpu", "--threads", "1"]


def test_weights_are_there_in_time_and_make_a_bundle(words: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*words, "--minutes", "0.1", "--teacher-epochs", "1"])
    assert result.exit_code == 0, result.exception
    path = tmp_path / "nets" / "bars.net.safetensors"
    _, about = read_network(path)
    assert about.network == "tiny"
    assert about.settings == replace(QUICK, teacher_epochs=1, epochs=4)
    lines = (tmp_path / "nets" / "bars.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    assert (tmp_path / "nets" / "bars.teacher.safetensors").exists()
    output = tmp_path / "bars.safetensors"
    exported = ["--from", str(path), "--output", str(output), "--threads", "1"]
    assert CliRunner().invoke(train_app, exported).exit_code == 0
    assert "--epochs 4" in str(read_bundle(output).metadata.training["command"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--only", "none"], "--only: 'none' is unknown; known: cifar10-binary"),
        (["--batch", "500"], "--batch: 500 is more than the"),
    ],
)
def test_mistakes_are_one_line(words: list[str], more: list[str], message: str) -> None:
    result = CliRunner().invoke(app, [*words, *more])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_recipes_name_networks_that_exist() -> None:
    for flagship in FLAGSHIPS.values():
        assert flagship.network in architectures.ARCHITECTURES
