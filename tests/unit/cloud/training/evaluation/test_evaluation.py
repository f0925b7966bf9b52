"""A bundle measured on labelled pictures: numbers, page and terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud.training.data.datasets import Dataset
from cloud.training.evaluation.command import COLUMNS, app, evenly_spaced, fitting
from cloud.training.evaluation.measuring import BINS, Evaluation, evaluate
from cloud.training.evaluation.page import render
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.errors import UsageError
from shared.images.idx import write_idx
from shared.model.bundle import Bundle, read_bundle
from shared.model.exits import NEVER
from shared.model.looks import METADATA_KEY, NO_LOOK, LookPlan, to_rows
from shared.packed import CloudHalf, DeviceHalf

LEVEL, CLOUD_LEVEL = 0, 0  # the narrowest pair makes mistakes


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(bundle_path("mnist-binary", "BUNDLE"))


@pytest.fixture(scope="module")
def digits(bundle: Bundle) -> Dataset:
    """The sample's digits, of which every tenth has a wrong label."""
    images, numbers = sample_digits()
    labels = numbers.astype(np.int64)
    labels[::10] = (labels[::10] + 1) % 10
    names = bundle.metadata.class_names
    return Dataset("digits", images[..., None], labels, names, "")


@pytest.fixture(scope="module")
def found(bundle: Bundle, digits: Dataset) -> Evaluation:
    return evaluate(bundle, digits.images, digits.labels, LEVEL, CLOUD_LEVEL)


def test_the_pair_that_is_looked_at_closely_is_that_of_the_grid(
    bundle: Bundle, digits: Dataset, found: Evaluation
) -> None:
    features = DeviceHalf(bundle).run(digits.images, LEVEL)
    logits = CloudHalf(bundle).run(features, LEVEL, CLOUD_LEVEL)
    answers = logits.argmax(axis=1)
    right = answers == digits.labels
    assert found.accuracy == found.grid[LEVEL, CLOUD_LEVEL] == right.mean()
    assert found.confusion.sum() == len(digits.labels)
    assert found.confusion[3, 3] == (right & (digits.labels == 3)).sum()
    assert found.recall[3] == right[digits.labels == 3].mean()
    assert found.precision[3] == right[answers == 3].mean()


def test_the_calibration_error_is_the_weighted_distance(
    bundle: Bundle, digits: Dataset, found: Evaluation
) -> None:
    features = DeviceHalf(bundle).run(digits.images, LEVEL)
    logits = CloudHalf(bundle).run(features, LEVEL, CLOUD_LEVEL).astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = (weights / weights.sum(axis=1, keepdims=True)).max(axis=1)
    right = logits.argmax(axis=1) == digits.labels
    error = 0.0
    for low in np.arange(BINS) / BINS:
        inside = (sure >= low) & (sure < low + 1 / BINS + (low > 1 - 1.5 / BINS))
        if inside.any():
            error += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert found.calibration_error == pytest.approx(error)


def test_mistakes_come_surest_first(digits: Dataset, found: Evaluation) -> None:
    assert len(found.mistakes) == round((1 - found.accuracy) * len(digits.labels))
    assert (np.diff(found.confidences) <= 0).all()
    assert (found.wrong_answers != digits.labels[found.mistakes]).all()


def test_rows_have_what_is_sent_and_what_stays(bundle: Bundle, found: Evaluation) -> None:
    for level, row in enumerate(found.rows):
        assert row.raw_bytes == bundle.architecture.sent_shape(level).packed_bytes
        assert 0 < row.coded_bytes <= row.raw_bytes + 8
        assert row.cloud == found.grid[level, -1]
        assert row.stay is not None
        assert 0 <= row.stay <= 1
        assert row.combined is not None


def test_the_page_needs_no_other_file_and_can_be_read_in_the_dark(
    bundle: Bundle, digits: Dataset, found: Evaluation
) -> None:
    strange = replace(digits, name="<b>digits</b>")
    page = render(bundle, strange, "test", found)
    assert "color-scheme: light dark" in page
    assert "<b>digits" not in page
    assert "data:image/png;base64," in page
    assert page.count("<svg") == 2
    assert str(bundle.metadata.training["command"]) in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "<script" not in page


def test_the_page_has_the_plans_that_the_validation_split_gave(
    bundle: Bundle, digits: Dataset, found: Evaluation
) -> None:
    plans = [
        LookPlan(0, NO_LOOK, NEVER, 0.0, 0, 0.0, 0.0, 0.0, 0.91234, 20.5, 7e5),
        LookPlan(0, 5, 0.9, 0.4, 100, 0.5, 0.25, 0.125, 0.99, 36, 2e6),
    ]
    exits = {**bundle.metadata.extra["exit"], "promise": [0.98765] * 6}
    extra = {**bundle.metadata.extra, METADATA_KEY: to_rows(plans), "exit": exits}
    listed = replace(bundle, metadata=replace(bundle.metadata, extra=extra))
    page = render(listed, digits, "test", found)
    nothing = "<td>0.00 %</td>" * 3
    assert f"<tr><td>0.125</td><td></td>{nothing}<td>91.23 %</td><td>20.5</td>" in page
    shares = "<td>50.00 %</td><td>25.00 %</td><td>12.50 %</td>"
    assert f"<tr><td>0.125</td><td>1</td>{shares}<td>99.00 %</td><td>36.0</td>" in page
    assert page.count("98.77 %") == 6
    none = replace(bundle, metadata=replace(bundle.metadata, extra={}))
    assert "has no plans of looks" in render(none, digits, "test", found)


def idx_folder(folder: Path, digits: Dataset) -> Path:
    for prefix in ("train", "t10k"):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", digits.images[..., 0])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", digits.labels.astype(np.uint8))
    return folder


def test_the_command_writes_the_page_and_80_columns(tmp_path: Path, digits: Dataset) -> None:
    page = tmp_path / "digits.html"
    words = ["mnist-binary", "--data", str(idx_folder(tmp_path, digits)), "--output", str(page)]
    result = CliRunner().invoke(app, [*words, "--images", "100", "--fraction", "0.3"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith("wrote ")) <= COLUMNS
    assert "right at (0.3, 1)" in result.stdout
    assert "least recognised" in result.stdout
    assert "100 pictures" in page.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "missing/x.html"], "--output: the folder missing is not there"),
        (["--fraction", "0"], "--fraction: 0 is not allowed"),
        (["--split", "holdout"], "split 'holdout' is unknown"),
        (["--data", "nowhere"], "data set 'nowhere' is neither"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "x.html")]
    result = CliRunner().invoke(app, ["mnist-binary", *output, *words])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_data_of_another_kind_are_refused(bundle: Bundle, digits: Dataset) -> None:
    for other, message in (
        (replace(digits, images=digits.images[:, :20]), "has pictures of"),
        (replace(digits, classes=("cat", "dog")), "has the classes cat, dog"),
        (replace(digits, images=digits.images[:0], labels=digits.labels[:0]), "has no pictures"),
    ):
        with pytest.raises(UsageError, match=message):
            fitting(bundle, other)


def test_some_pictures_are_spread_over_all(digits: Dataset) -> None:
    assert len(evenly_spaced(digits, 10).labels) == 10
    assert np.array_equal(evenly_spaced(digits, 10).images[-1], digits.images[-1])
    assert evenly_spaced(digits, 0) is digits
