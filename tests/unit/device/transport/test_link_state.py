"""The table of a link's states, read as a checker would."""

from __future__ import annotations

import itertools

import pytest

from device.transport.link_state import TRANSITIONS, LinkEvent, LinkState, next_state


def test_every_state_has_a_row_and_every_event_a_place() -> None:
    assert set(TRANSITIONS) == set(LinkState)
    assert {event for row in TRANSITIONS.values() for event in row} == set(LinkEvent)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(LinkState, LinkEvent)))
def test_a_step_is_the_tables_or_is_refused(state: LinkState, event: LinkEvent) -> None:
    if event in TRANSITIONS[state]:
        assert next_state(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(ValueError, match=f"{event.name} cannot happen while {state.name}"):
            next_state(state, event)


def test_every_state_can_be_reached_from_the_first_and_nothing_leaves_the_last() -> None:
    reached, frontier = {LinkState.CONNECTING}, [LinkState.CONNECTING]
    while frontier:
        following = set(TRANSITIONS[frontier.pop()].values()) - reached
        reached |= following
        frontier += following
    assert reached == set(LinkState)
    assert not TRANSITIONS[LinkState.CLOSED]


@pytest.mark.parametrize("state", [s for s in LinkState if s is not LinkState.CLOSED])
def test_what_an_event_means_does_not_depend_on_the_state(state: LinkState) -> None:
    meant = {
        LinkEvent.OPENED: LinkState.UP,
        LinkEvent.DROPPED: LinkState.CONNECTING,
        LinkEvent.LOST: LinkState.CONNECTING,
        LinkEvent.ATTEMPT_FAILED: LinkState.CONNECTING,
        LinkEvent.ALL_FAILED: LinkState.AWAY,
        LinkEvent.ALL_REFUSED: LinkState.REFUSED,
        LinkEvent.CLOSED: LinkState.CLOSED,
    }
    for event, following in TRANSITIONS[state].items():
        assert following is meant[event]


def test_only_an_open_stream_ends_the_absence_of_the_cloud() -> None:
    for state in (LinkState.AWAY, LinkState.REFUSED):
        leaving = {
            e for e, s in TRANSITIONS[state].items() if s in (LinkState.UP, LinkState.CONNECTING)
        }
        assert leaving == {LinkEvent.OPENED}


def test_a_stream_opens_only_where_there_is_none_and_is_dropped_only_where_there_is_one() -> None:
    for state, row in TRANSITIONS.items():
        assert (LinkEvent.DROPPED in row) == (state is LinkState.UP)
        assert LinkEvent.OPENED not in row or state is not LinkState.UP
