"""Admission: which requests may wait. Those that would be late are refused at once.

A client may hold an equal share of the queue among the clients that wait, with one share kept free
for a newcomer. A client alone may therefore fill half of the queue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

SHORTEST_PUSHBACK_MS = 1
LONGEST_PUSHBACK_MS = 5_000


class RejectReason(str, Enum):
    """Why a request may not wait."""

    LATE = "deadline"
    FULL = "queue full"
    SHARE = "client's share used up"


@dataclass(frozen=True)
class QueueLimits:
    """The most that may wait: samples, and seconds of work at the narrowest level."""

    samples: int
    delay_s: float


@dataclass(frozen=True)
class QueueState:
    """The queue as a new request finds it.

    samples         of all clients
    client_samples  of the client that asks
    clients         number of clients that wait, without the one that asks
    delay_s         seconds of work at the narrowest level
    level_delay_s   seconds of work at the level that is in use
    """

    samples: int
    client_samples: int
    clients: int
    delay_s: float
    level_delay_s: float


def reject_reason(
    state: QueueState, limits: QueueLimits, samples: int, work_s: float, remaining_s: float | None
) -> RejectReason | None:
    """Why a request of ``samples`` may not wait, or None.

    ``work_s`` is its predicted time at the level that is in use, ``remaining_s`` the time to its
    deadline. In an empty queue only the deadline can refuse it.
    """
    others = state.clients
    own = state.client_samples
    ahead_s = state.level_delay_s
    if state.samples:
        # Clients take turns: a request waits at most for an equal share of the work by each.
        turns = (own + samples) * (others + 1) / (state.samples + samples)
        ahead_s = min(ahead_s, ahead_s * turns)
    if remaining_s is not None and ahead_s + work_s > remaining_s:
        return RejectReason.LATE
    if not state.samples:
        return None
    if state.samples + samples > limits.samples or state.delay_s > limits.delay_s:
        return RejectReason.FULL
    shares = others + 2
    if (own + samples) * shares > limits.samples and own:
        return RejectReason.SHARE
    own_delay_s = state.delay_s * own / state.samples + work_s
    if own_delay_s * shares > limits.delay_s and own:
        return RejectReason.SHARE
    return None


def pushback_ms(state: QueueState) -> int:
    """Milliseconds until what waits now is done, for a refused client to wait."""
    return min(max(math.ceil(1000 * state.delay_s), SHORTEST_PUSHBACK_MS), LONGEST_PUSHBACK_MS)
