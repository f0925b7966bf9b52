"""The queue between a camera's thread and the client."""

from __future__ import annotations

import threading

import pytest

from device.live.newest import Newest
from shared.errors import ImageError


def test_the_newest_wins_and_what_is_dropped_is_counted() -> None:
    queue: Newest[int] = Newest(2)
    for number in range(5):
        queue.put_newest(number)
    assert (queue.take(), queue.take()) == (3, 4)
    assert queue.dropped == 3
    assert queue.take(0.01) is None


def test_what_must_not_be_lost_waits_for_room() -> None:
    queue: Newest[int] = Newest(2)
    thread = threading.Thread(target=lambda: [queue.put(number) for number in range(50)])
    thread.start()
    assert [queue.take(5) for _ in range(50)] == list(range(50))
    thread.join()
    assert queue.dropped == 0


def test_a_camera_does_not_starve_a_folder() -> None:
    queue: Newest[str] = Newest(2)
    queue.put("file")
    taken = []
    for _ in range(4):
        queue.put_newest("frame")
        taken.append(queue.take())
    assert "file" in taken


def test_closing_wakes_who_waits_and_gives_what_is_left_before_the_failure() -> None:
    queue: Newest[int] = Newest(2)
    queue.put(1)
    threading.Timer(0.05, queue.close, (ImageError("--input: gone"),)).start()
    assert queue.take() == 1
    with pytest.raises(ImageError, match="gone"):
        queue.take()
    assert not queue.put(2)
    assert not queue.put_newest(3)


def test_closing_ends_a_wait_for_room() -> None:
    queue: Newest[int] = Newest(1)
    queue.put(1)
    threading.Timer(0.05, queue.close).start()
    assert not queue.put(2)
