"""The states of a link, and the one table of how they follow each other. No I/O.

A link keeps one stream open to one of several servers, which it tries in turn. How a
request fares depends on two questions: is there a stream to send it on, and if not, is it worth
waiting for one?

    CONNECTING  no stream, and some server was not tried since one last worked: requests wait
    UP          a stream is open: requests are sent on it
    AWAY        no stream, and every server was tried in vain: requests that need not wait give up
    REFUSED     no stream, and every server refuses us for good, for example the token or the
                protocol: requests fail at once
    CLOSED      the link was closed

Attempts go on in CONNECTING, AWAY and REFUSED alike, so each can turn into UP. A stream *works*
once an answer has come over it or it has lasted a while; before that its end counts as a failed
attempt, since a server that accepts connections only to drop them is no better than one that is
away.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class LinkState(Enum):
    """What a link is doing; see the module's docstring."""

    CONNECTING = "connecting"
    UP = "up"
    AWAY = "away"
    REFUSED = "refused"
    CLOSED = "closed"


class LinkEvent(Enum):
    """What happens to a link."""

    OPENED = "a stream was opened"
    DROPPED = "a request found that the stream is broken"
    LOST = "a stream that worked has ended"
    ATTEMPT_FAILED = "a server could not be reached; others were not tried yet"
    ALL_FAILED = "a server could not be reached, nor could any other"
    ALL_REFUSED = "a server refused for good, as has every other"
    CLOSED = "the link was closed"


_S, _E = LinkState, LinkEvent

TRANSITIONS: Mapping[LinkState, Mapping[LinkEvent, LinkState]] = {
    _S.CONNECTING: {
        _E.OPENED: _S.UP,
        _E.LOST: _S.CONNECTING,
        _E.ATTEMPT_FAILED: _S.CONNECTING,
        _E.ALL_FAILED: _S.AWAY,
        _E.ALL_REFUSED: _S.REFUSED,
        _E.CLOSED: _S.CLOSED,
    },
    _S.UP: {
        _E.DROPPED: _S.CONNECTING,
        _E.LOST: _S.CONNECTING,
        _E.ATTEMPT_FAILED: _S.CONNECTING,
        _E.ALL_FAILED: _S.AWAY,
        _E.ALL_REFUSED: _S.REFUSED,
        _E.CLOSED: _S.CLOSED,
    },
    _S.AWAY: {
        _E.OPENED: _S.UP,
        _E.ALL_FAILED: _S.AWAY,
        _E.ALL_REFUSED: _S.REFUSED,
        _E.CLOSED: _S.CLOSED,
    },
    _S.REFUSED: {
        _E.OPENED: _S.UP,
        _E.ALL_REFUSED: _S.REFUSED,
        _E.CLOSED: _S.CLOSED,
    },
    _S.CLOSED: {},
}


def next_state(state: LinkState, event: LinkEvent) -> LinkState:
    """The state after ``event``; ``ValueError`` for one that cannot happen in ``state``."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise ValueError(f"{event.name} cannot happen while {state.name}") from None
