"""How many images the statistics of norms are measured on."""

import pytest

from cloud.training.split.calibration import LEAST_IMAGES, MOST_IMAGES, enough_images
from cloud.training.split.settings import Settings
from shared.errors import UsageError


def test_large_pictures_are_measured_on_fewer_of_them() -> None:
    assert enough_images(28, 28) == enough_images(32, 32) == MOST_IMAGES
    assert enough_images(45, 45) == 4_142
    assert enough_images(64, 64) == enough_images(224, 224) == LEAST_IMAGES


def test_a_single_image_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--calibration-images: 1 has no variance"):
        Settings(calibration_images=1)
