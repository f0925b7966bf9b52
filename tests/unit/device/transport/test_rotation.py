"""Taking turns among servers, and the pauses in between."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from device.transport.backoff import Backoff
from device.transport.link_state import LinkEvent, LinkState, next_state
from device.transport.rotation import ServerRotation
from device.transport.stream import Loss
from shared.errors import LinkError

AWAY = Loss(LinkError("no connection"))
REFUSES = Loss(LinkError("refuses the token"), final=True)
SERVERS = ("a:1", "b:1")


def rotation(*servers: str) -> ServerRotation:
    return ServerRotation(servers, Backoff(1.0, 1.0, draw=lambda: 1.0))


def test_servers_take_turns_and_a_whole_round_in_vain_is_followed_by_a_pause() -> None:
    turns = rotation(*SERVERS)
    seen = []
    for _ in range(4):
        seen.append((turns.current, turns.ended(AWAY, False, 0.0), turns.pause_s(0.0)))
    assert seen == [
        ("a:1", LinkEvent.ATTEMPT_FAILED, 0.0),
        ("b:1", LinkEvent.ALL_FAILED, 1.0),
        ("a:1", LinkEvent.ALL_FAILED, 0.0),
        ("b:1", LinkEvent.ALL_FAILED, 1.0),
    ]


def test_a_stream_that_worked_makes_the_round_start_again() -> None:
    turns = rotation(*SERVERS)
    turns.ended(AWAY, False, 0.0)
    assert turns.ended(AWAY, True, 0.0) is LinkEvent.LOST
    assert turns.pause_s(0.0) == 0.0
    assert turns.ended(AWAY, False, 0.0) is LinkEvent.ATTEMPT_FAILED


def test_only_when_every_server_refuses_is_the_link_refused() -> None:
    turns = rotation(*SERVERS)
    assert turns.ended(REFUSES, False, 0.0) is LinkEvent.ATTEMPT_FAILED
    assert turns.ended(REFUSES, False, 0.0) is LinkEvent.ALL_REFUSED
    turns.record_answer("a:1")
    assert turns.ended(AWAY, False, 0.0) is LinkEvent.ATTEMPT_FAILED


def test_a_server_that_asks_for_a_pause_is_left_alone_that_long() -> None:
    turns = rotation(*SERVERS)
    turns.ended(Loss(LinkError("busy"), wait_s=30.0), True, now_s=100.0)
    assert turns.pause_s(100.0) == 0.0  # the other server's turn
    turns.ended(AWAY, True, 110.0)
    assert turns.pause_s(110.0) == 20.0


def test_the_last_error_of_each_server_is_kept_until_one_works() -> None:
    turns = rotation(*SERVERS)
    turns.ended(AWAY, False, 0.0)
    turns.ended(REFUSES, False, 0.0)
    assert turns.errors == {"a:1": "no connection", "b:1": "refuses the token"}
    turns.record_answer("b:1")
    assert turns.errors == {}


@given(st.integers(1, 3), st.lists(st.sampled_from(["away", "refuses", "lost", "idle"])))
def test_events_fit_the_table_whatever_servers_do(count: int, ends: list[str]) -> None:
    turns = rotation(*(f"s{number}:1" for number in range(count)))
    state = LinkState.CONNECTING
    for end, now_s in zip(ends, itertools.count(0.0), strict=False):
        if end in ("refuses", "lost", "idle"):
            state = next_state(state, LinkEvent.OPENED)
        if end == "lost":
            turns.record_answer(turns.current)
        loss = REFUSES if end == "refuses" else AWAY
        state = next_state(state, turns.ended(loss, end in ("lost", "idle"), now_s))
        assert turns.pause_s(now_s) >= 0
