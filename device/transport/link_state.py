"""The states of a link, and the table of their transitions. No I/O.

A link keeps one stream open to one of several servers, which it tries in turn. The state tells
whether there is a stream for requests and, if not, whether it is worth waiting for one:

CONNECTING  no stream, and not every server has been tried since one last worked: requests wait
UP          a stream is open: requests are sent on it
AWAY        no stream, and every server has been tried without success: requests that may not
            wait fail
REFUSED     no stream, and every server refuses us permanently, for example because of the
            token or the protocol: requests fail at once
    CLOSED      the link was closed

In CONNECTING, AWAY and REFUSED attempts continue, so each can change to UP. A stream *works* once
an answer has arrived on it or it has lasted for a while. If it ends before that, this counts as a
failed attempt, since a server that drops its connections is as useless as one that is away.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class LinkState(Enum):
    """The state of a link; see the module's docstring."""

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
    """Return the state after ``event``; ``ValueError`` if it cannot happen in ``state``."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise ValueError(f"{event.name} cannot happen while {state.name}") from None
