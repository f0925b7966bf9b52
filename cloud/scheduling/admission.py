"""Admission: who may wait. What cannot be done in time is refused at once, and greed is bounded.

A client may hold its share of the queue: an equal part among those who wait, with one part kept
free for whoever comes next. So a greedy device fills at most half of the queue when it is alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

SHORTEST_PUSHBACK_MS = 1
LONGEST_PUSHBACK_MS = 5_000


class Refusal(str, Enum):
    """Why a request may not wait."""

    LATE = "deadline"  # it would be answered after its deadline
    FULL = "queue full"
    SHARE = "client's share used up"


@dataclass(frozen=True)
class Limits:
    """How much may wait: samples, and seconds of computing at the narrowest level."""

    samples: int
    delay_s: float


@dataclass(frozen=True)
class Waiting:
    """What waits already, as far as one new request is concerned.

    samples         of everybody
    client_samples  of the client that asks
    clients         how many wait, without the client that asks
    delay_s         until all of that is done, at the narrowest level
    """

    samples: int
    client_samples: int
    clients: int
    delay_s: float


def refusal(
    waiting: Waiting, limits: Limits, samples: int, compute_s: float, remaining_s: float | None
) -> Refusal | None:
    """Why a request of ``samples`` may not wait, or None.

    ``compute_s`` is what it takes by itself at the narrowest level, ``remaining_s`` the time until
    its deadline. If nothing waits it is only refused for its deadline.
    """
    others = waiting.clients
    own = waiting.client_samples
    # Clients take turns: nobody waits for more than an equal part of what is ahead.
    mine = waiting.delay_s
    if waiting.samples:
        turns = (own + samples) * (others + 1) / (waiting.samples + samples)
        mine = min(mine, mine * turns)
    if remaining_s is not None and mine + compute_s > remaining_s:
        return Refusal.LATE
    if not waiting.samples:
        return None
    if waiting.samples + samples > limits.samples or waiting.delay_s > limits.delay_s:
        return Refusal.FULL
    parts = others + 2
    if (own + samples) * parts > limits.samples and own:
        return Refusal.SHARE
    own_delay_s = waiting.delay_s * own / waiting.samples + compute_s
    if own_delay_s * parts > limits.delay_s and own:
        return Refusal.SHARE
    return None


def pushback_ms(waiting: Waiting) -> int:
    """When a refused client may come again: when what waits now is done."""
    return min(max(math.ceil(1000 * waiting.delay_s), SHORTEST_PUSHBACK_MS), LONGEST_PUSHBACK_MS)
