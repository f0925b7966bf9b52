"""A user's own images: trained with the same command, served, and asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud.training.split.architecture_file import to_toml
from cloud.training.split.architectures import compact
from cloud.training.split.train import app
from shared.data.sample import sample_digits
from shared.images.idx import write_idx
from shared.model.architecture import Shape
from shared.model.bundle import Bundle, read_bundle
from shared.model.looks import read_plans
from tests.support.processes import client_command, run, start_server
from tests.support.torch_threads import few_threads

CLASSES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four classes, 24x24 pixels, in IDX files."""
    folder = tmp_path_factory.mktemp("own") / "shapes"
    folder.mkdir()
    images, labels = sample_digits()
    few = labels < CLASSES
    images, labels = images[few][:, 2:26, 2:26], labels[few].astype(np.uint8)
    write_idx(folder / "train-images-idx3-ubyte", np.repeat(images[20:], 8, axis=0))
    write_idx(folder / "train-labels-idx1-ubyte", np.repeat(labels[20:], 8))
    write_idx(folder / "t10k-images-idx3-ubyte", images[:20])
    write_idx(folder / "t10k-labels-idx1-ubyte", labels[:20])
    return folder


@pytest.fixture(scope="module")
def network(folder: Path) -> Path:
    """``compact`` with two levels of each half: 24 pairs take long to calibrate."""
    made = compact(Shape(24, 24, 1), CLASSES)
    few = replace(made, device_levels=(0.125, 1.0), cloud_levels=(0.25, 1.0))
    path = folder.parent / "few.toml"
    path.write_text(to_toml(few))
    return path


@pytest.fixture(scope="module")
def trained(folder: Path, network: Path) -> Path:
    """The bundle that a few seconds of training give, in this process, which has torch already."""
    output = folder.parent / "shapes.safetensors"
    words = ("--architecture", str(network), "--data", str(folder), "--output", str(output))
    few = ("--epochs", "4", "--batch", "32", "--augment", "none", "--threads", "1")
    with few_threads():
        done = CliRunner().invoke(app, [*words, *few])
    assert done.exception is None, done.output
    return output


@pytest.fixture(scope="module")
def own(trained: Path) -> Bundle:
    """That bundle, read."""
    return read_bundle(trained)


def test_the_bundle_says_what_it_was_made_of(own: Bundle) -> None:
    assert own.metadata.name == "shapes"
    assert own.architecture.input_shape.height == 24
    assert len(own.metadata.class_names) == CLASSES
    assert read_plans(own)
    exits = {"temperature", "threshold", "promise", "validation_curve", "curve"}
    assert set(own.metadata.extra["exit"]) == exits
    # Four classes: a network that learnt nothing is right once in four.
    assert own.metadata.accuracy[-1][-1] >= 0.6


@pytest.mark.parametrize("fraction", ["0.125", "1.0"])
def test_it_is_served_with_the_accuracy_that_it_claims(
    folder: Path, trained: Path, own: Bundle, fraction: str
) -> None:
    with start_server("--model", str(trained)) as server:
        done = run(
            client_command(
                *("--model", str(trained), "--server", server.address, "--no-exit"),
                *("--fraction", fraction, "--output", "json"),
                *("--input", str(folder / "t10k-images-idx3-ubyte")),
                *("--labels", str(folder / "t10k-labels-idx1-ubyte")),
            )
        )
    assert done.status == 0, done.err
    summary = done.document["summary"]
    level = own.architecture.device_levels.index(float(fraction))
    assert summary["sources"] == {"cloud": 20}
    assert summary["accuracy"] == pytest.approx(own.metadata.accuracy[level][-1])
