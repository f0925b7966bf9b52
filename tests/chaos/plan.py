"""What is going to happen: a list of events that a seed decides."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

CALM_S = 2.0  # at the beginning and at the end nothing happens
EARLIEST_S, LATEST_S = 0.3, 1.7  # from one event to the next


class Fault(Enum):
    """What can happen. ``KILL`` happens to a program, everything else to a network."""

    KILL = "kill -9"
    CUT = "connections cut"
    HUSH = "connections half open"
    DELAY = "latency"
    NARROW = "bandwidth limit"


@dataclass(frozen=True)
class Event:
    """``fault`` happens to ``target`` at ``at_s``.

    ``seconds`` is how long a program stays dead or a network bad; ``amount`` is the latency in
    seconds or the bandwidth in bytes a second.
    """

    at_s: float
    fault: Fault
    target: str
    seconds: float
    amount: float = 0.0

    def __str__(self) -> str:
        detail = {
            Fault.DELAY: f" of {1000 * self.amount:.0f} ms",
            Fault.NARROW: f" of {self.amount / 1000:.0f} kB/s",
        }.get(self.fault, "")
        return f"{self.target}: {self.fault.value}{detail} for {self.seconds:.1f} s"


def make_plan(
    seed: int, seconds: float, programs: tuple[str, ...], networks: tuple[str, ...]
) -> list[Event]:
    """Events of a run of ``seconds``. All kinds are dealt from one deck, so that none is forgotten:
    every program is killed and every fault comes once before anything comes again.
    """
    draw = random.Random(seed)
    events: list[Event] = []
    deck: list[tuple[Fault, str]] = []
    at_s = CALM_S
    while at_s < seconds - CALM_S:
        if not deck:
            deck = [(Fault.KILL, program) for program in programs]
            deck += [(fault, draw.choice(networks)) for fault in Fault if fault is not Fault.KILL]
            draw.shuffle(deck)
        fault, target = deck.pop()
        events.append(Event(at_s, fault, target, draw.uniform(0.2, 2.0), _amount(fault, draw)))
        at_s += draw.uniform(EARLIEST_S, LATEST_S)
    return events


def _amount(fault: Fault, draw: random.Random) -> float:
    if fault is Fault.DELAY:
        return draw.uniform(0.02, 0.3)
    return draw.uniform(5e3, 50e3) if fault is Fault.NARROW else 0.0
