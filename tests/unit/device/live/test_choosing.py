"""Which frames are answered: by time, and by what has changed."""

from __future__ import annotations

import numpy as np
import pytest

from device.live.choosing import Changes, Every, block_means
from tests.support.cameras import page


def taken(every: Every, times_s: list[float]) -> list[float]:
    return [time_s for time_s in times_s if every.wants(time_s)]


def test_one_frame_in_the_period() -> None:
    times_s = [number / 10 for number in range(50)]
    assert taken(Every(2.0), times_s) == [0.0, 2.0, 4.0]


def test_the_period_does_not_drift_with_late_frames() -> None:
    assert taken(Every(1.0), [0.0, 1.3, 2.0, 3.4, 4.0]) == [0.0, 1.3, 2.0, 3.4, 4.0]


def test_after_a_gap_and_after_a_clock_that_went_back_it_begins_anew() -> None:
    assert taken(Every(1.0), [0.0, 100.5, 101.0, 101.5, 0.0, 0.5, 1.0]) == [
        *(0.0, 100.5, 101.5, 0.0, 1.0)
    ]


def noisy(pixels: np.ndarray, seed: int, light: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 6, pixels.shape)
    return (pixels + noise + light).clip(0, 255).astype(np.uint8)[:, :, None]


def test_noise_and_exposure_are_no_change() -> None:
    changes, still = Changes(), page(0)
    assert changes.wants(noisy(still, 0))
    assert not any(changes.wants(noisy(still, seed, light=seed)) for seed in range(1, 15))


@pytest.mark.parametrize("other", [page(1), np.zeros((480, 640), np.uint8)])
def test_another_picture_is_a_change(other: np.ndarray) -> None:
    changes = Changes()
    assert changes.wants(noisy(page(0), 0))
    assert changes.wants(noisy(other, 1))


def test_a_small_thing_in_a_corner_is_a_change() -> None:
    changes, still = Changes(), page(0)
    assert changes.wants(noisy(still, 0))
    still[5:40, 5:40] = 20
    assert changes.wants(noisy(still, 1))


def test_a_slow_change_is_seen_in_the_end() -> None:
    """The comparison is with the last picture that was answered, not with the one before."""
    changes = Changes()
    wanted = []
    for darker in range(0, 60, 2):
        still = page(0)
        still[:120, :160] -= darker
        wanted.append(changes.wants(noisy(still, darker)))
    assert 3 <= sum(wanted) <= 10


@pytest.mark.parametrize("shape", [(28, 28, 1), (480, 640, 3), (5, 9, 1), (17, 33, 3)])
def test_block_means_are_means(shape: tuple[int, int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    means = block_means(picture)
    assert means.shape == (min(16, shape[0]), min(16, shape[1]))
    row = round(shape[0] / means.shape[0]) if shape[0] % means.shape[0] == 0 else None
    if row:
        column = shape[1] // means.shape[1]
        if shape[1] % means.shape[1] == 0:
            assert means[0, 0] == pytest.approx(picture[:row, :column].mean(), abs=1e-3)
    assert means.mean() == pytest.approx(picture.mean(), abs=12)
