"""One call from pictures to a network and its bundle."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud.training.data.datasets import Splits
from cloud.training.library import train
from cloud.training.split.architecture_file import to_toml
from cloud.training.split.making import architecture_of
from shared.errors import UsageError
from shared.images.idx import write_idx
from shared.model.architecture import Shape
from shared.model.bundle import read_bundle
from shared.packed import CloudHalf, DeviceHalf
from tests.support.processes import ROOT
from tests.support.trainings import QUICK, pictures, tiny


@pytest.fixture
def data() -> Splits:
    return Splits(pictures(96), pictures(60, seed=1), pictures(40, seed=2))


def test_the_network_and_the_bundle_are_one_and_the_report_says_what_they_reach(
    data: Splits,
) -> None:
    report = train(data, tiny(), QUICK)
    assert [epoch.epoch for epoch in report.epochs] == [1, 2, 3]
    bundle = report.bundle
    assert bundle.metadata.training["test_digest"] == data.test.digest
    images, labels = data.test.images, data.test.labels
    answers = CloudHalf(bundle).run(DeviceHalf(bundle).run(images, 1), 1, 1).argmax(axis=1)
    assert bundle.metadata.accuracy[1][1] == (answers == labels).mean()
    assert not report.net.training
    with torch.no_grad():
        logits = report.net(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 1, 1)
    assert np.array_equal(logits.argmax(1).numpy(), answers)
    assert bundle.metadata.accuracy[1][1] > 0.6  # of three classes


def test_a_checkpoint_is_gone_on_from(data: Splits, tmp_path: Path) -> None:
    kept = tmp_path / "state"
    first = train(data, tiny(), QUICK, checkpoint=kept)
    again = train(data, tiny(), QUICK, checkpoint=kept)
    assert again.epochs == ()
    assert again.bundle.metadata.version == first.bundle.metadata.version


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "clothes"
    folder.mkdir()
    for prefix, part in (("train", pictures(120)), ("t10k", pictures(30, seed=3))):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", part.images[..., 0])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", part.labels.astype(np.uint8))
    page = (ROOT / "docs" / "own-task.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "Settings(epochs=20)" in block
    exec(block.replace("epochs=20", "epochs=1, batch=16"), {})
    assert read_bundle(tmp_path / "clothes.safetensors").architecture.name == "compact"


def test_a_network_is_named_described_or_given(data: Splits, tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(tiny()))
    assert architecture_of(path, data) == architecture_of(tiny(), data) == tiny()
    assert architecture_of("compact", data).input_shape == Shape(8, 8, 1)
    with pytest.raises(UsageError, match="network: tiny is for"):
        architecture_of(replace(tiny(), input_shape=Shape(16, 16, 1)), data)


def test_parts_that_do_not_belong_together_are_refused(data: Splits) -> None:
    none = replace(data.test, images=data.test.images[:0], labels=data.test.labels[:0])
    for part, message in (
        (none, "has an empty part"),
        (replace(data.test, images=data.test.images[:, :6]), "pictures of several shapes"),
        (replace(data.test, classes=("a", "b", "c")), "have different classes"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(data, test=part)
