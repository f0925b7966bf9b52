"""Which inputs are live."""

from __future__ import annotations

import pytest

from device.live.sources import camera_number, is_endless, is_live, shown


@pytest.mark.parametrize(
    ("source", "number"),
    [("camera", 0), ("camera:0", 0), ("camera:12", 12), ("camera:", None), ("camera:x", None)],
)
def test_cameras(source: str, number: int | None) -> None:
    assert camera_number(source) == number


@pytest.mark.parametrize("source", ["camera", "http://cam/video", "RTSP://cam:554/1", "tcp://a:1"])
def test_endless_sources(source: str) -> None:
    assert is_endless(source)
    assert is_live(source)


@pytest.mark.parametrize("source", ["a.mp4", "folder/B.MKV", "x.mjpeg", "-"])
def test_sources_with_an_end(source: str) -> None:
    assert is_live(source)
    assert not is_endless(source)


@pytest.mark.parametrize("source", ["a.png", "folder", "cameras", "ftp://x/y", "b.gif"])
def test_what_is_not_live(source: str) -> None:
    assert not is_live(source)


def test_a_password_is_not_shown() -> None:
    assert shown("rtsp://me:secret@cam:554/a@b") == "rtsp://cam:554/a@b"
    assert shown("camera:1") == "camera:1"
    assert shown("folder/a.mp4") == "folder/a.mp4"
