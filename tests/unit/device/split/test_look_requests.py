"""Which wishes for a second look are followed: bounded, said once, counted."""

from __future__ import annotations

import logging

import pytest

from device.split.look_requests import BURST, SLACK, LookRequests
from shared.protocol.messages import Looks, More

FIRST = Looks(0, 2, 1000)


def test_a_wish_for_all_or_some_of_the_samples_is_followed() -> None:
    requests = LookRequests()
    assert requests.follow(More(2), FIRST, 3, 0.5) == (0, 1, 2)
    assert requests.follow(More(2, samples=(0, 2)), FIRST, 3, None) == (0, 2)
    assert requests.follow(None, FIRST, 3, 0.5) == ()
    assert not requests.refused


@pytest.mark.parametrize(
    ("reason", "more", "looks"),
    [
        ("level", More(9), FIRST),  # which the model does not have
        ("level", More(1), FIRST),
        ("samples", More(2, samples=(3,)), FIRST),
        ("samples", More(2, samples=(1, 1)), FIRST),
        ("samples", More(2, samples=(2, 0)), FIRST),
        ("unasked", More(2), None),
        ("unasked", More(2), Looks(earlier=1)),  # a third look
    ],
)
def test_a_wrong_wish_is_refused_in_one_line_and_counted(
    reason: str, more: More, looks: Looks | None, caplog: pytest.LogCaptureFixture
) -> None:
    requests = LookRequests()
    with caplog.at_level(logging.WARNING):
        assert requests.follow(more, looks, 3, 0.5) == ()
        assert requests.follow(more, looks, 3, 0.5) == ()
    assert requests.refused == {reason: 2}
    assert len(caplog.messages) == 1
    assert "\n" not in caplog.messages[0]


def test_a_server_that_always_asks_gets_little_more_than_the_plan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    requests, count = LookRequests(), 10_000
    followed = sum(len(requests.follow(More(2), FIRST, 1, 0.2)) for _ in range(count))
    assert followed <= BURST + count * (0.2 + SLACK)
    assert followed >= count * 0.2
    assert requests.refused["often"] == count - followed
    assert len(caplog.messages) == 1


def test_pictures_that_are_harder_than_planned_are_still_looked_at() -> None:
    requests = LookRequests()
    for number in range(10_000):
        more = More(2) if number % 5 < 2 else None  # 40 % instead of 20 %
        assert len(requests.follow(more, FIRST, 1, 0.2)) == (more is not None)
