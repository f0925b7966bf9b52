"""The command that measures a bundle's plans of looks again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud.training.data import datasets
from cloud.training.split import look_table
from shared.model.bundle import read_bundle, write_bundle
from shared.model.looks import NO_LOOK, read_payloads, read_plans
from tests.support.clouds import images, tiny_bundle


def test_a_bundle_gets_a_table_and_keeps_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny_bundle()
    path = tmp_path / "tiny.safetensors"
    write_bundle(bundle, path)

    def load(name: str, folder: Path, part: str) -> datasets.Dataset:
        assert (name, folder) == ("tiny", tmp_path)
        pictures = images(300, seed=len(part))
        labels = pictures.reshape(300, -1).sum(axis=1).astype("int64") % 5
        return datasets.Dataset("tiny", pictures, labels, tuple("abcde"), "")

    monkeypatch.setattr(look_table, "load", load)
    given = [str(path), "--data", "tiny", "--data-dir", str(tmp_path), "--most", "4"]
    done = CliRunner().invoke(look_table.app, given)
    assert done.exit_code == 0, done.output
    made = read_bundle(path)
    plans = read_plans(made)
    assert (plans[0].first, plans[0].second) == (2, NO_LOOK)
    assert 1 < len(plans) <= 4
    assert read_payloads(made) is not None
    assert made.metadata.version == bundle.metadata.version
