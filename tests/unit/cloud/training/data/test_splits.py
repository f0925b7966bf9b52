"""The validation split is told by the content of the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud.training.data.datasets import load
from cloud.training.data.splits import content_hashes, validation_mask
from shared.errors import UsageError
from tests.support.data_sets import (
    CONTENTS,
    RANDOM,
    fill,
)


class TestValidation:
    def test_training_and_validation_share_no_image_and_lose_none(self, tmp_path: Path) -> None:
        folder = fill(tmp_path / "mine", CONTENTS)
        whole = load(str(folder), tmp_path, "train", 0.0)
        train, validation = (load(str(folder), tmp_path, name) for name in ("train", "validation"))
        rows = [image.tobytes() for part in (train, validation) for image in part.images]
        assert sorted(rows) == sorted(image.tobytes() for image in whole.images)
        assert not {i.tobytes() for i in train.images} & {i.tobytes() for i in validation.images}
        assert len({whole.digest, train.digest, validation.digest}) == 3

    def test_a_side_is_told_by_the_content_alone(self) -> None:
        images = RANDOM.integers(0, 256, (2000, 4, 4), dtype=np.uint8)
        labels = np.arange(2000) % 10
        mask = validation_mask(content_hashes(images), labels, 0.1)
        assert 0.07 < mask.mean() < 0.13
        order = RANDOM.permutation(2000)
        assert np.array_equal(
            validation_mask(content_hashes(images[order]), labels[order], 0.1), mask[order]
        )
        half = validation_mask(content_hashes(images[:1000]), labels[:1000], 0.1)
        assert np.array_equal(half, mask[:1000])

    def test_copies_of_an_image_are_on_one_side_whatever_their_labels(self) -> None:
        images = np.repeat(RANDOM.integers(0, 256, (50, 4, 4), dtype=np.uint8), 2, axis=0)
        mask = validation_mask(content_hashes(images), np.arange(100) % 2, 0.5)
        assert np.array_equal(mask[::2], mask[1::2])

    @pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
    def test_a_class_of_two_images_has_one_on_each_side(self, share: float) -> None:
        images = RANDOM.integers(0, 256, (20, 4, 4), dtype=np.uint8)
        labels = np.arange(20) % 10
        mask = validation_mask(content_hashes(images), labels, share)
        assert np.bincount(labels[mask], minlength=10).tolist() == [1] * 10

    def test_a_share_of_nothing_holds_nothing_out(self, tmp_path: Path) -> None:
        folder = fill(tmp_path / "mine", CONTENTS)
        assert len(load(str(folder), tmp_path, "validation", 0.0).images) == 0

    @pytest.mark.parametrize(("split", "share"), [("valid", 0.1), ("train", 1.0), ("train", -0.1)])
    def test_what_is_not_allowed_is_said(self, tmp_path: Path, split: str, share: float) -> None:
        with pytest.raises(UsageError, match=r"split 'valid' is unknown|validation: .* from 0 to"):
            load(str(tmp_path), tmp_path, split, share)
