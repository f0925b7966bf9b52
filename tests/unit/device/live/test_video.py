"""Frames of generated videos, decoded by PyAV."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from device.live.choosing import Every
from device.live.video import Video
from shared.errors import ImageError
from tests.support.cameras import RATE, page, write_video

FRAMES = [page(index, (160, 120)) for index in range(12)]


@pytest.fixture(params=["mjpeg", "libx264"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    ending = {"mjpeg": "avi", "libx264": "mp4"}[request.param]
    return str(write_video(tmp_path / f"digits.{ending}", FRAMES, request.param))


def test_every_frame_comes_in_its_own_grey(video: str) -> None:
    found = list(Video(video, colour=False, every=None).frames())
    assert [number for number, _ in found] == list(range(12))
    for (_, picture), drawn in zip(found, FRAMES, strict=True):
        assert picture.colour.shape == (120, 160, 1)
        assert np.abs(picture.colour[:, :, 0].astype(int) - drawn).mean() < 4


def test_colour_for_a_model_of_colour(video: str) -> None:
    _, picture = next(Video(video, colour=True, every=None).frames())
    assert picture.colour.shape == (120, 160, 3)
    assert np.abs(picture.colour.astype(int) - FRAMES[0][:, :, None]).mean() < 6


def test_a_file_is_sampled_by_its_own_clock(video: str) -> None:
    found = [number for number, _ in Video(video, False, Every(4 / RATE)).frames()]
    assert found == [0, 4, 8]


def test_what_is_not_a_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not a video")
    with pytest.raises(ImageError, match=r"broken\.mp4 cannot be read"):
        list(Video(str(path), False, None).frames())


def test_a_file_that_is_cut_off_gives_its_first_frames_or_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.avi", FRAMES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = 0
    with suppress(ImageError):
        for _ in Video(str(path), False, None).frames():
            found += 1
    assert 2 <= found < len(FRAMES)


def test_a_camera_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match="camera:77 cannot be read"):
        list(Video("camera:77", False, None).frames())
