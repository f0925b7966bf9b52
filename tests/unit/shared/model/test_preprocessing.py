from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared.bundles import bundle_path, shipped
from shared.errors import BundleError
from shared.model.architecture import Shape
from shared.model.bundle import describe, make_bundle, read_bundle, write_bundle
from shared.model.preprocessing import (
    DIGITS,
    GARMENTS,
    PHOTOGRAPHS,
    Changes,
    Preprocessing,
    default_preprocessing,
)


@pytest.mark.parametrize("steps", [DIGITS, GARMENTS, replace(PHOTOGRAPHS, crop=(1, 2, 3, 4))])
def test_a_description_survives_json(steps: Preprocessing) -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(steps.to_json()))) == steps


def test_bundles_of_earlier_versions_are_told_by_their_data_and_input() -> None:
    expected = {"mnist-binary": DIGITS, "mnist-binary-paper": DIGITS}
    for name, path in shipped().items():
        meta = read_bundle(path).metadata
        assert meta.steps == expected.get(name, meta.preprocessing or PHOTOGRAPHS)
    assert default_preprocessing(Shape(28, 28, 1), "fashion-mnist") == GARMENTS
    assert default_preprocessing(Shape(28, 28, 1), "my/own") == Preprocessing(colour=False)


def test_a_bundle_carries_its_description_and_its_version_depends_on_it(tmp_path: Path) -> None:
    bundle = read_bundle(bundle_path("mnist-binary-paper"))
    steps = replace(DIGITS, ink_box=18)
    made = make_bundle(replace(bundle.metadata, preprocessing=steps), bundle.tensors)
    write_bundle(made, tmp_path / "x.safetensors")
    read = read_bundle(tmp_path / "x.safetensors")
    assert read.metadata.steps == steps
    assert read.metadata.version != bundle.metadata.version
    assert json.dumps(describe(read))


def test_changes_override_the_description() -> None:
    changed = Changes(invert=True, crop=(0, 0, 9, 9), resize="fit").apply(DIGITS)
    assert (changed.invert, changed.crop, changed.resize) == (True, (0, 0, 9, 9), "fit")
    assert changed.ink_box is None
    assert Changes().apply(DIGITS) == DIGITS


@pytest.mark.parametrize(
    "wrong",
    [{"ground": -1}, {"ink": 30}, {"ink_box": 20}, {"resize": "no"}, {"crop": (0, 0, 0, 1)}],
)
def test_descriptions_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="preprocessing: "):
        Preprocessing(colour=False, **wrong)  # type: ignore[arg-type]
